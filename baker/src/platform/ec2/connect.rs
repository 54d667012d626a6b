//! How AWS is called.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::call::call;
use super::look::Shared;
use super::{Ec2, Memory};
use crate::failure::{Failure, failed};

/// What the SDK does not find out itself.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// A file of certificates, in PEM, that AWS is believed by besides those that this machine trusts (`AWS_CA_BUNDLE`).
    pub ca_bundle: Option<PathBuf>,
    /// This program, which is the way to a builder, too.
    pub program: Option<PathBuf>,
}

impl Ec2 {
    /// The region that was named, else the one that the environment or the profile names.
    ///
    /// # Errors
    /// When none does, or the credentials are missing or not valid.
    pub async fn connect(region: Option<&str>, way: &Way) -> Result<Self, Failure> {
        let sdk = load(region, way).await?;
        let Some(region) = sdk.region().map(ToString::to_string) else {
            return Err(Failure::new("it is not known in which region to bake")
                .help("name it with `--region`, AWS_REGION, or `region` in the profile"));
        };
        let sts = aws_sdk_sts::Client::new(&sdk);
        let identity = call("sts:GetCallerIdentity", "these credentials", sts.get_caller_identity().send());
        let caller = match identity.await {
            Ok(identity) => identity.arn.unwrap_or_default(),
            Err(error) if error.code.is_none() => {
                return Err(Failure::from(error).help(
                    "log in, or name a profile with AWS_PROFILE: baker finds credentials as the AWS CLI does",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let shared = Shared::new(way.program.clone());
        Ok(Self::of(sdk, region, caller, Rc::new(shared), Rc::default()))
    }

    fn of(sdk: SdkConfig, region: String, caller: String, shared: Rc<Shared>, memory: Rc<Memory>) -> Self {
        Self {
            looks: shared.looks(&region),
            ec2: aws_sdk_ec2::Client::new(&sdk),
            ssm: aws_sdk_ssm::Client::new(&sdk),
            sts: aws_sdk_sts::Client::new(&sdk),
            sdk,
            region,
            caller,
            shared,
            memory,
        }
    }

    /// The same account in another region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        let sdk = self.sdk.to_builder().region(Region::new(region.to_owned())).build();
        let (shared, memory) = (Rc::clone(&self.shared), Rc::clone(&self.memory));
        Self::of(sdk, region.to_owned(), self.caller.clone(), shared, memory)
    }

    /// Every region that the account has enabled.
    ///
    /// # Errors
    /// When AWS does not tell.
    pub async fn regions(&self) -> Result<Vec<String>, Failure> {
        let answer = call("ec2:DescribeRegions", "the account", self.ec2.describe_regions().send()).await?;
        Ok(answer.regions().iter().filter_map(|region| region.region_name().map(str::to_owned)).collect())
    }
}

/// How AWS is called: credentials and endpoints are found as the AWS CLI finds them.
pub(super) async fn load(region: Option<&str>, way: &Way) -> Result<SdkConfig, Failure> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(
            // Adaptive: what is throttled slows down all calls of the process to that service and region.
            RetryConfig::adaptive().with_max_attempts(8).with_max_backoff(Duration::from_secs(10)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(5))
                .operation_attempt_timeout(Duration::from_mins(1))
                .build(),
        );
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(path) = &way.ca_bundle {
        loader = loader.http_client(believing(path)?);
    }
    Ok(loader.load().await)
}

/// A client that goes through the proxies of the environment, as the SDK's own does, and believes whom a file names.
fn believing(path: &Path) -> Result<SharedHttpClient, Failure> {
    let what = || format!("read `{}`, which AWS_CA_BUNDLE names", path.display());
    let pem = fs::read(path).map_err(failed(what()))?;
    // The SDK says nothing of a file that it cannot read, and believes nobody.
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if certificates.map_err(failed(what()))?.is_empty() {
        return Err(Failure::new(format!("failed to {}: there is no certificate in it", what())));
    }
    let trusted = TrustStore::default().with_pem_certificate(pem);
    let tls = TlsContext::builder().with_trust_store(trusted).build().map_err(failed(what()))?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    }))
}
