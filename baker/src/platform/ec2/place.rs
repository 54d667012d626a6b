//! Where a builder can be launched: instance types, and subnets in zones that have them.

use std::fmt;

use aws_sdk_ec2::types::{Filter, InstanceType, LocationType, Subnet, VCpuInfo};

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
    /// Whether on Spot capacity.
    pub(super) spot: bool,
    /// How many vCPUs the type has.
    pub(super) vcpus: i32,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let market = if self.spot { " (Spot)" } else { "" };
        write!(formatter, "{}{market} in {}", self.instance_type, self.zone)
    }
}

/// The processors of an instance type.
struct Processor {
    instance_type: String,
    architectures: Vec<String>,
    vcpus: i32,
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
            tokio::join!(self.subnets(builder), self.offerings(&types), self.processors(&types));
        let known = known?;
        for Processor { instance_type, architectures, .. } in &known {
            if !architectures.iter().any(|known| known == arch.of_ec2()) {
                return Err(Failure::new(format!(
                    "the instance type `{instance_type}` is for {}, and the image for {}",
                    architectures.join(" and "),
                    arch.of_ec2()
                ))
                .help("list other `instance_types` under `builder: ec2:`"));
            }
        }
        // In the order in which they are wanted.
        let of_type = |name: &String| {
            let vcpus = known.iter().find(|one| one.instance_type == *name).map_or(0, |one| one.vcpus);
            (name.clone(), vcpus)
        };
        let types: Vec<(String, i32)> = types.iter().map(of_type).collect();
        let markets: &[bool] = if builder.spot { &[true, false] } else { &[false] };
        candidates(&types, markets, &subnets?, &zones?, &self.region)
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

    /// What processors types have.
    async fn processors(&self, types: &[String]) -> Result<Vec<Processor>, Failure> {
        let wanted = types.iter().map(|name| InstanceType::from(name.as_str())).collect();
        let request = self.ec2.describe_instance_types().set_instance_types(Some(wanted));
        let about = format!("{} in {}", types.join(", "), self.region);
        let answer = call("ec2:DescribeInstanceTypes", &about, request.send()).await?;
        let read = |info: &aws_sdk_ec2::types::InstanceTypeInfo| {
            let names = info.processor_info()?.supported_architectures();
            Some(Processor {
                instance_type: info.instance_type()?.as_str().to_owned(),
                architectures: names.iter().map(|name| name.as_str().to_owned()).collect(),
                vcpus: info.v_cpu_info().and_then(VCpuInfo::default_v_cpus).unwrap_or(0),
            })
        };
        Ok(answer.instance_types().iter().filter_map(read).collect())
    }
}

/// `types` have their vCPUs; `markets` are whether on Spot capacity. Both are in the order in which they are tried.
fn candidates(
    types: &[(String, i32)],
    markets: &[bool],
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
    for (&spot, (instance_type, vcpus)) in
        markets.iter().flat_map(|spot| types.iter().map(move |one| (spot, one)))
    {
        for subnet in subnets {
            let zone = subnet.availability_zone().unwrap_or_default().to_owned();
            if offered.iter().any(|(name, place)| name == instance_type && *place == zone) {
                let subnet = subnet.subnet_id().unwrap_or_default().to_owned();
                candidates.push(Candidate {
                    instance_type: instance_type.clone(),
                    subnet,
                    zone,
                    spot,
                    vcpus: *vcpus,
                });
            }
        }
    }
    if candidates.is_empty() {
        let zones: Vec<&str> = subnets.iter().filter_map(Subnet::availability_zone).collect();
        let types: Vec<&str> = types.iter().map(|(name, _)| name.as_str()).collect();
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

    fn names(names: &[&str]) -> Vec<(String, i32)> {
        names.iter().map(|&name| (name.to_owned(), 2)).collect()
    }

    #[test]
    fn each_type_is_tried_in_every_zone_that_has_it() {
        let subnets = [subnet("subnet-a", "vpc-1", "us-east-1a"), subnet("subnet-b", "vpc-1", "us-east-1b")];
        let offered = [("t3.small", "us-east-1b"), ("c7i.large", "us-east-1a"), ("c7i.large", "us-east-1b")];
        let offered: Vec<_> = offered.map(|(name, zone)| (name.to_owned(), zone.to_owned())).into();
        let place = |types: &[&str], markets: &[bool]| {
            candidates(&names(types), markets, &subnets, &offered, "us-east-1")
        };
        let shown = |found: Placement| found.candidates.iter().map(Candidate::to_string).collect::<Vec<_>>();
        let found = place(&["t3.small", "c7i.large"], &[false]).expect("there are some");
        assert_eq!(
            shown(found),
            ["t3.small in us-east-1b", "c7i.large in us-east-1a", "c7i.large in us-east-1b"]
        );
        let found = place(&["t3.small"], &[true, false]).expect("there are some");
        assert_eq!(shown(found), ["t3.small (Spot) in us-east-1b", "t3.small in us-east-1b"]);
        let error = place(&["m9.huge"], &[false]).expect_err("nowhere");
        assert_eq!(error.message, "none of m9.huge is offered in us-east-1a, us-east-1b");
        let two = [subnet("subnet-a", "vpc-1", "us-east-1a"), subnet("subnet-b", "vpc-2", "us-east-1b")];
        let error =
            candidates(&names(&["t3.small"]), &[false], &two, &offered, "us-east-1").expect_err("two VPCs");
        assert_eq!(error.message, "the subnets in us-east-1 are not all of one VPC");
    }
}
