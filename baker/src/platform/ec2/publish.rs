//! From an AMI that nobody can find to one that hosts are launched from: copied, shared, and then pointed at.

use aws_sdk_ec2::operation::copy_image::CopyImageOutput;
use aws_sdk_ec2::types::{
    ImageAttributeName, LaunchPermission, LaunchPermissionModifications, ResourceType, Tag,
};
use aws_sdk_ssm::types::ParameterType;
use futures_util::future::try_join_all;

use super::Ec2;
use super::call::call;
use super::source::snapshots_of;
use super::tags::{self, Tags};
use super::wait::Look;
use crate::failure::{Failure, failed};
use crate::image::{Ec2Publish, Volume};
use crate::ledger::Created;
use crate::manifest::Ami;
use crate::platform::Run;

impl Ec2 {
    /// Copies an AMI to a region, and waits until it is there.
    async fn copy(
        &self,
        ami: &Ami,
        region: &str,
        encrypted: bool,
        key: Option<&str>,
        run: &str,
        tags: &Tags,
    ) -> Result<Ami, Failure> {
        let there = self.in_region(region);
        let about = format!("the copy of `{}` in {region}", ami.id);
        let request = there
            .ec2
            .copy_image()
            .name(&ami.name)
            .source_image_id(&ami.id)
            .source_region(&ami.region)
            .client_token(run)
            .set_encrypted((encrypted || key.is_some()).then_some(true))
            .set_kms_key_id(key.map(str::to_owned))
            .tag_specifications(tags.on(ResourceType::Image))
            .tag_specifications(tags.on(ResourceType::Snapshot));
        let made =
            self.making(call("ec2:CopyImage", &about, request.send()), CopyImageOutput::image_id).await;
        let id = there.done(made).await?.image_id.unwrap_or_default();
        let snapshots = snapshots_of(&there.until_available(&id).await?);
        Ok(Ami { region: region.to_owned(), id, name: ami.name.clone(), snapshots })
    }

    /// Lets accounts launch an AMI.
    async fn share(&self, ami: &Ami, accounts: &[String]) -> Result<(), Failure> {
        if accounts.is_empty() {
            return Ok(());
        }
        let permissions = accounts.iter().map(|account| LaunchPermission::builder().user_id(account).build());
        let change = LaunchPermissionModifications::builder().set_add(Some(permissions.collect())).build();
        let about = format!("the AMI `{}` in {}", ami.id, ami.region);
        let request = self
            .ec2
            .modify_image_attribute()
            .image_id(&ami.id)
            .attribute(ImageAttributeName::LaunchPermission.as_str())
            .launch_permission(change);
        self.done(call("ec2:ModifyImageAttribute", &about, request.send()).await).await.map(drop)
    }

    /// Makes an AMI one that stays: it loses the tag by which it would be removed.
    async fn keep(&self, ami: &Ami) -> Result<(), Failure> {
        let about = format!("the AMI `{}` in {}", ami.id, ami.region);
        // From here on it is not removed, whatever a look at its tags still says.
        let parts: Vec<String> = [&ami.id].into_iter().chain(&ami.snapshots).cloned().collect();
        self.memory.kept.borrow_mut().extend(parts.clone());
        let request = self
            .ec2
            .delete_tags()
            .set_resources(Some(parts.clone()))
            .tags(Tag::builder().key(tags::TEMPORARY).build());
        if let Err(error) = call("ec2:DeleteTags", &about, request.send()).await {
            if !error.is_unknown() {
                // It still has the tag, so it goes with everything else.
                self.memory.kept.borrow_mut().retain(|id| !parts.contains(id));
            }
            return Err(self.explained(error).await);
        }
        // Whoever looks next, in another process, has to see that.
        self.until(&format!("taking the tag from {about}"), std::time::Duration::from_mins(1), || async {
            let still = tags::value(self.image(&ami.id).await?.tags(), tags::TEMPORARY).is_some();
            Ok(if still { Look::NotYet("it still has it".into()) } else { Look::Done(()) })
        })
        .await
    }

    /// Points a channel at an AMI, if it does not already, and says whether it did not.
    pub(super) async fn point(&self, channel: &str, ami: &str) -> Result<bool, Failure> {
        let about = format!("the parameter `{channel}` in {}", self.region);
        match call("ssm:GetParameter", &about, self.ssm.get_parameter().name(channel).send()).await {
            Ok(answer) if answer.parameter().and_then(|found| found.value()) == Some(ami) => {
                return Ok(false);
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let request = self
            .ssm
            .put_parameter()
            .name(channel)
            .r#type(ParameterType::String)
            .data_type("aws:ec2:image")
            .value(ami)
            .overwrite(true);
        self.done(call("ssm:PutParameter", &about, request.send()).await).await.map(|_| true)
    }

    /// The whole of it. Nothing points anywhere before every copy is there and stays.
    pub(super) async fn publish_everywhere(
        &self,
        ami: &Ami,
        volume: &Volume,
        settings: &Ec2Publish,
        tags: &Tags,
        run: &mut Run<'_>,
    ) -> Result<Vec<Ami>, Failure> {
        let name = run.ledger.run().to_owned();
        let regions: Vec<&String> =
            settings.regions.iter().filter(|region| **region != self.region).collect();
        for region in &regions {
            let created = Created::Ec2 { region: (*region).clone(), run: name.clone() };
            run.ledger.intend(created).map_err(failed("write the ledger"))?;
        }
        let copies = regions.iter().map(|region| {
            let key = settings.kms_keys.get(*region).map(String::as_str);
            self.copy(ami, region, volume.encrypted, key, &name, tags)
        });
        let mut amis = vec![ami.clone()];
        amis.extend(try_join_all(copies).await?);
        let places: Vec<(Self, &Ami)> = amis.iter().map(|ami| (self.in_region(&ami.region), ami)).collect();
        try_join_all(places.iter().map(|(there, ami)| there.share(ami, &settings.share_with))).await?;
        for (there, ami) in &places {
            there.keep(ami).await?;
        }
        if let Some(channel) = &settings.channel {
            try_join_all(places.iter().map(|(there, ami)| there.point(channel, &ami.id))).await?;
        }
        Ok(amis)
    }

    /// The AMI in this region that was made of the same things, if there is one; the newest.
    pub(super) async fn made_of(
        &self,
        image: &str,
        input_digest: &str,
    ) -> Result<Option<(Ami, String)>, Failure> {
        let same = vec![tags::tagged(tags::INPUT_DIGEST, &[input_digest])];
        Ok(self.baked(image, same).await?.map(|image| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let ami = Ami {
                region: self.region.clone(),
                id: text(image.image_id()),
                name: text(image.name()),
                snapshots: snapshots_of(&image),
            };
            (ami, text(image.creation_date()))
        }))
    }
}
