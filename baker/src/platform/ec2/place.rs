//! Where a builder can be launched: instance types, and subnets in zones that have them.

use aws_sdk_ec2::types::{Filter, InstanceType, LocationType, Subnet};

use super::Ec2;
use super::call::call;
use super::tags;
use crate::failure::Failure;
use crate::image::{Architecture, Ec2Builder, SubnetChoice};

/// Everything that can be tried, in order, all in one VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The VPC.
    pub(super) vpc: String,
    /// Instance type, subnet and its zone.
    pub(super) candidates: Vec<Candidate>,
}

/// One way to launch a builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The instance type.
    pub(super) instance_type: String,
    /// The subnet.
    pub(super) subnet: String,
    /// Its zone.
    pub(super) zone: String,
}

/// Small types with burst credits, the newest that every region has.
fn default_types(arch: Architecture) -> Vec<String> {
    let types: &[&str] = match arch {
        Architecture::X86_64 => &["t3.small", "t3a.small"],
        Architecture::Arm64 => &["t4g.small"],
    };
    types.iter().map(|&name| name.to_owned()).collect()
}

impl Ec2 {
    /// Finds where the builder can be launched; changes nothing.
    pub(super) async fn place(&self, builder: &Ec2Builder, arch: Architecture) -> Result<Placement, Failure> {
        let types = match builder.instance_types.as_slice() {
            [] => default_types(arch),
            types => types.to_vec(),
        };
        let (subnets, zones, known) =
            tokio::join!(self.subnets(builder), self.offerings(&types), self.architectures(&types));
        for (name, architectures) in known? {
            if !architectures.iter().any(|known| known == arch.of_ec2()) {
                return Err(Failure::new(format!(
                    "the instance type `{name}` is for {}, and the image for {}",
                    architectures.join(" and "),
                    arch.of_ec2()
                ))
                .help("list other `instance_types` under `builder: ec2:`"));
            }
        }
        candidates(&types, &subnets?, &zones?, &self.region)
    }

    async fn subnets(&self, builder: &Ec2Builder) -> Result<Vec<Subnet>, Failure> {
        let mut request = self.ec2.describe_subnets();
        let shown = match &builder.subnet {
            Some(SubnetChoice::Id(id)) => {
                request = request.subnet_ids(id);
                format!("the subnet `{id}`")
            }
            Some(SubnetChoice::Tags(wanted)) => {
                for (key, value) in wanted {
                    request = request.filters(tags::tagged(key, &[value]));
                }
                let wanted: Vec<String> =
                    wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("a subnet with the tags {}", wanted.join(", "))
            }
            None => {
                request = request.filters(Filter::builder().name("default-for-az").values("true").build());
                "a default subnet".into()
            }
        };
        let about = format!("{shown} in {}", self.region);
        let missing = || {
            Failure::new(format!("{about} does not exist"))
                .help("name one with `subnet: { id: subnet-... }` under `builder: ec2:`")
        };
        match call("ec2:DescribeSubnets", &about, request.send()).await {
            Ok(answer) => {
                let subnets = answer.subnets.unwrap_or_default();
                if subnets.is_empty() { Err(missing()) } else { Ok(subnets) }
            }
            Err(error) if error.is_not_found() => Err(missing()),
            Err(error) => Err(error.into()),
        }
    }

    /// Each type with each zone that has it.
    async fn offerings(&self, types: &[String]) -> Result<Vec<(String, String)>, Failure> {
        let filter = Filter::builder().name("instance-type").set_values(Some(types.to_vec())).build();
        let request = self
            .ec2
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(filter)
            .into_paginator()
            .items()
            .send();
        let about = format!("instance types in {}", self.region);
        let offerings =
            call("ec2:DescribeInstanceTypeOfferings", &about, request.collect::<Result<Vec<_>, _>>()).await?;
        let pair = |offering: &aws_sdk_ec2::types::InstanceTypeOffering| {
            Some((offering.instance_type()?.as_str().to_owned(), offering.location()?.to_owned()))
        };
        Ok(offerings.iter().filter_map(pair).collect())
    }

    /// Each type with the processors that it has.
    async fn architectures(&self, types: &[String]) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let wanted = types.iter().map(|name| InstanceType::from(name.as_str())).collect();
        let request = self.ec2.describe_instance_types().set_instance_types(Some(wanted));
        let about = format!("{} in {}", types.join(", "), self.region);
        let answer = call("ec2:DescribeInstanceTypes", &about, request.send()).await?;
        let read = |info: &aws_sdk_ec2::types::InstanceTypeInfo| {
            let names = info.processor_info()?.supported_architectures();
            Some((
                info.instance_type()?.as_str().to_owned(),
                names.iter().map(|name| name.as_str().to_owned()).collect(),
            ))
        };
        Ok(answer.instance_types().iter().filter_map(read).collect())
    }
}

fn candidates(
    types: &[String],
    subnets: &[Subnet],
    offered: &[(String, String)],
    region: &str,
) -> Result<Placement, Failure> {
    let vpc = subnets.first().and_then(Subnet::vpc_id).unwrap_or_default().to_owned();
    if subnets.iter().any(|subnet| subnet.vpc_id() != Some(&vpc)) {
        return Err(Failure::new(format!("the subnets in {region} are not all of one VPC"))
            .help("name one with `subnet: { id: subnet-... }`, or more tags"));
    }
    let mut candidates = Vec::new();
    for instance_type in types {
        for subnet in subnets {
            let zone = subnet.availability_zone().unwrap_or_default().to_owned();
            if offered.iter().any(|(name, place)| name == instance_type && *place == zone) {
                let subnet = subnet.subnet_id().unwrap_or_default().to_owned();
                candidates.push(Candidate { instance_type: instance_type.clone(), subnet, zone });
            }
        }
    }
    if candidates.is_empty() {
        let zones: Vec<&str> = subnets.iter().filter_map(Subnet::availability_zone).collect();
        return Err(Failure::new(format!("none of {} is offered in {}", types.join(", "), zones.join(", ")))
            .help("list other `instance_types`, or another `subnet`, under `builder: ec2:`"));
    }
    Ok(Placement { vpc, candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(id: &str, vpc: &str, zone: &str) -> Subnet {
        Subnet::builder().subnet_id(id).vpc_id(vpc).availability_zone(zone).build()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn each_type_is_tried_in_every_zone_that_has_it() {
        let subnets = [subnet("subnet-a", "vpc-1", "us-east-1a"), subnet("subnet-b", "vpc-1", "us-east-1b")];
        let offered = [("t3.small", "us-east-1b"), ("c7i.large", "us-east-1a"), ("c7i.large", "us-east-1b")];
        let offered: Vec<_> = offered.map(|(name, zone)| (name.to_owned(), zone.to_owned())).into();
        let place = |types: &[&str]| candidates(&names(types), &subnets, &offered, "us-east-1");
        let found = place(&["t3.small", "c7i.large"]).expect("there are some");
        let found: Vec<String> =
            found.candidates.iter().map(|one| format!("{} {}", one.instance_type, one.subnet)).collect();
        assert_eq!(found, ["t3.small subnet-b", "c7i.large subnet-a", "c7i.large subnet-b"]);
        let error = place(&["m9.huge"]).expect_err("nowhere");
        assert_eq!(error.message, "none of m9.huge is offered in us-east-1a, us-east-1b");
        let two = [subnet("subnet-a", "vpc-1", "us-east-1a"), subnet("subnet-b", "vpc-2", "us-east-1b")];
        let error = candidates(&names(&["t3.small"]), &two, &offered, "us-east-1").expect_err("two VPCs");
        assert_eq!(error.message, "the subnets in us-east-1 are not all of one VPC");
    }
}
