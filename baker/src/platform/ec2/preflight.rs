//! What would keep a bake from its end, found before anything is made: one wave of calls, none of which changes
//! anything, and all of what they find at once.

use aws_sdk_ec2::types::{Filter, ResourceType};
use futures_util::future::join_all;

use super::Ec2;
use super::call::{CallError, call};
use super::launch::Launch;
use super::place::Placement;
use super::session_manager::SESSION_MANAGER_PLUGIN;
use super::source::Ami;
use super::tags::Tags;
use crate::failure::Failure;
use crate::image::{BakePlan, Ec2Publish};

/// What AWS answers to a dry run that would have worked.
const WOULD_WORK: &str = "DryRunOperation";

/// What the wave asks about.
pub(super) struct Wanted<'a> {
    pub(super) image: &'a BakePlan,
    pub(super) ami: &'a Ami,
    pub(super) placement: &'a Placement,
    pub(super) name: &'a str,
    pub(super) tags: &'a Tags,
}

impl Ec2 {
    /// Everything that would go wrong, as far as it can be known without doing it.
    pub(super) async fn foresee(&self, wanted: &Wanted<'_>) -> Result<String, Failure> {
        let settings = &wanted.image.publish.ec2;
        let mut regions: Vec<&str> = vec![&self.region];
        regions.extend(settings.regions.iter().map(String::as_str).filter(|region| *region != self.region));
        let names = join_all(regions.iter().map(|region| self.name_is_free(region, wanted.name)));
        let copies = regions.iter().filter(|region| **region != self.region);
        let copies = join_all(copies.map(|region| self.may_copy(region, wanted)));
        let (names, copies, group, launch, reads, room, simulated) = tokio::join!(
            names,
            copies,
            self.may_make_group(wanted),
            self.may_launch(wanted),
            self.may_read_channel(settings),
            self.is_room(wanted),
            self.may_go_on(wanted),
        );
        let mut problems: Vec<Failure> = Vec::new();
        let results = names.into_iter().chain(copies).chain([
            group,
            launch,
            reads,
            shareable(wanted.image),
            reachable(wanted.image),
        ]);
        problems.extend(results.filter_map(Result::err));
        let mut unknown = String::new();
        for result in [room, simulated] {
            match result {
                Ok(None) => {}
                Ok(Some(said)) => unknown += &format!("; {said}"),
                Err(problem) => problems.push(problem),
            }
        }
        match problems.as_slice() {
            [] => Ok(format!(
                "{} in {} may be launched on {}; {} is free{unknown}",
                wanted.ami.name,
                self.region,
                wanted.placement.candidates.first().map_or("?", |one| &one.instance_type),
                wanted.name
            )),
            [problem] => Err(problem.clone()),
            _ => {
                let all: Vec<String> = problems
                    .iter()
                    .map(|problem| {
                        let help =
                            problem.help.as_ref().map_or_else(String::new, |help| format!("\n    {help}"));
                        format!("\n  {}{help}", problem.message)
                    })
                    .collect();
                Err(Failure::new(format!(
                    "{} things would keep this bake from its end:{}",
                    all.len(),
                    all.concat()
                )))
            }
        }
    }

    async fn name_is_free(&self, region: &str, name: &str) -> Result<(), Failure> {
        let there = self.in_region(region);
        let named = Filter::builder().name("name").values(name).build();
        let images = there.images(&[], &[named], Some("self")).await?;
        match images.first().and_then(|image| image.image_id()) {
            None => Ok(()),
            Some(id) => Err(Failure::new(format!("the name `{name}` is taken in {region}: `{id}` has it"))
                .help("let `publish: { ec2: { name: ... } }` have something in it that is new at each bake, or leave it out")),
        }
    }

    async fn may_copy(&self, region: &str, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let there = self.in_region(region);
        let request = there
            .ec2
            .copy_image()
            .name(wanted.name)
            .source_image_id(&wanted.ami.id)
            .source_region(&self.region)
            .tag_specifications(wanted.tags.on(ResourceType::Image))
            .dry_run(true);
        let about = format!("copies to {region}");
        there.would_work(call("ec2:CopyImage", &about, request.send()).await.map(drop)).await
    }

    async fn may_make_group(&self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        if !wanted.image.builder.ec2.security_groups.is_empty() {
            return Ok(());
        }
        let request = self
            .ec2
            .create_security_group()
            .group_name(format!("{}-preflight", wanted.image.name))
            .description("Admits baker to a builder")
            .vpc_id(&wanted.placement.vpc)
            .tag_specifications(wanted.tags.on(ResourceType::SecurityGroup))
            .dry_run(true);
        let about = format!("a security group in {}", self.region);
        self.would_work(call("ec2:CreateSecurityGroup", &about, request.send()).await.map(drop)).await
    }

    async fn may_launch(&self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let launch = Launch {
            ami: wanted.ami,
            placement: wanted.placement,
            settings: &wanted.image.builder.ec2,
            groups: &wanted.image.builder.ec2.security_groups,
            user_data: "#cloud-config\n",
            tags: wanted.tags,
            token: "",
        };
        let Some(candidate) = wanted.placement.candidates.first() else { return Ok(()) };
        self.would_work(self.run_instances(&launch, candidate, "preflight", true).await.map(drop)).await
    }

    /// Whether the quotas have room for what is tried last: On-Demand capacity, where Spot comes first.
    async fn is_room(&self, wanted: &Wanted<'_>) -> Result<Option<String>, Failure> {
        match wanted.placement.candidates.last() {
            Some(candidate) => self.has_room(candidate).await,
            None => Ok(None),
        }
    }

    /// The channel is written last of all; whether it can be read says at least that it is not for others only.
    async fn may_read_channel(&self, settings: &Ec2Publish) -> Result<(), Failure> {
        let Some(channel) = &settings.channel else { return Ok(()) };
        let about = format!("the parameter `{channel}` in {}", self.region);
        match call("ssm:GetParameter", &about, self.ssm.get_parameter().name(channel).send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn would_work(&self, answer: Result<(), CallError>) -> Result<(), Failure> {
        match answer {
            Ok(()) => Ok(()),
            Err(error) if error.is(WOULD_WORK) => Ok(()),
            // Whether there is room can change until the launch, and the launch goes on to the next.
            Err(error) if error.is_no_capacity() => Ok(()),
            Err(error) => Err(self.explained(error).await),
        }
    }
}

/// Session Manager needs AWS's plugin on this machine.
fn reachable(image: &BakePlan) -> Result<(), Failure> {
    if !image.builder.ec2.ssh.session_manager {
        return Ok(());
    }
    match std::process::Command::new(SESSION_MANAGER_PLUGIN).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Failure::because(format!("`{SESSION_MANAGER_PLUGIN}` cannot be run on this machine"), &error)
                .help("install it: Systems Manager, \"Install the Session Manager plugin for the AWS CLI\""))
        }
    }
}

/// An AMI that is encrypted with the account's own key for EBS can be used by nobody else (EC2, "Share an AMI").
fn shareable(image: &BakePlan) -> Result<(), Failure> {
    let volume = &image.builder.ec2.volume;
    if image.publish.ec2.share_with.is_empty() || !volume.encrypted || volume.kms_key.is_some() {
        return Ok(());
    }
    Err(Failure::new("an image that is encrypted with the account's own key for EBS cannot be shared").help(
        "name a key that the other accounts may use, `volume: { kms_key: ... }`, or say `encrypted: false`, under `builder: ec2:`",
    ))
}
