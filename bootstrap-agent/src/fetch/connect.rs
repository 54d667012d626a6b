//! Connections: TLS to who has a certificate that is believed, through a proxy if there is one to go through.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use recipes::system::fetch::FetchError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// How long a connection to one address of a host may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Through which proxy a host is reached.
pub(crate) struct Proxies(Matcher);

impl Proxies {
    /// Reads `https_proxy` and `no_proxy`.
    pub(crate) fn of(variables: &BTreeMap<String, String>) -> Result<Self, FetchError> {
        let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default().to_owned();
        let (proxy, except) = (value("https_proxy"), value("no_proxy"));
        // What it cannot read it passes over, and would go around the proxy then.
        let alone = Matcher::builder().https(proxy.clone()).build();
        let intercepted = alone.intercept(&Uri::from_static("https://host.invalid"));
        let scheme = intercepted.as_ref().and_then(|proxy| proxy.uri().scheme_str());
        if !proxy.is_empty() && !matches!(scheme, Some("http" | "https")) {
            // Its text may have a password in it.
            return Err("`https_proxy` is not an `http://` or `https://` address of a proxy".into());
        }
        Ok(Self(Matcher::builder().https(proxy).no(except).build()))
    }
}

/// Makes connections.
pub(crate) struct Connector {
    tls: ClientConfig,
    proxies: Proxies,
}

impl Connector {
    /// One that believes these certificates, in PEM, or those that the host trusts.
    pub(crate) fn new(ca: Option<&[u8]>, proxies: Proxies) -> Result<Self, FetchError> {
        let roots = match ca {
            Some(pem) => named(pem)?,
            None => trusted()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls, proxies })
    }

    /// Asks, over a connection of its own.
    pub(crate) async fn ask<B: Sent>(
        &self,
        uri: &Uri,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_LIMIT));
        match self.proxies.0.intercept(uri) {
            None => ask(self.tls().https_only().enable_http1().wrap_connector(http), request).await,
            Some(proxy) => {
                let tunnel = self.tunnel(&proxy, http);
                ask(self.tls().https_only().enable_http1().wrap_connector(tunnel), request).await
            }
        }
    }

    fn tunnel(&self, proxy: &Intercept, http: HttpConnector) -> Tunnel<HttpsConnector<HttpConnector>> {
        let to_proxy = self.tls().https_or_http().enable_http1().wrap_connector(http);
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        match proxy.basic_auth() {
            Some(password) => tunnel.with_auth(password.clone()),
            None => tunnel,
        }
    }

    fn tls(&self) -> HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes> {
        HttpsConnectorBuilder::new().with_tls_config(self.tls.clone())
    }
}

/// Asks without TLS and through no proxy: where AWS services are stood in for, and at private endpoints.
pub(crate) async fn plainly<B: Sent>(
    request: Request<B>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    ask(HttpConnector::new(), request).await
}

/// What a request can bring.
pub(crate) trait Sent:
    Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static> Sent for B {}

async fn ask<C: Connect + Clone + Send + Sync + 'static, B: Sent>(
    connector: C,
    request: Request<B>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    client.request(request).await
}

fn named(pem: &[u8]) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("the `ca_file` is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in the `ca_file` is not valid: {error}"))?;
    }
    if roots.is_empty() {
        return Err(
            "the `ca_file` has no certificate in it; it starts with `-----BEGIN CERTIFICATE-----`".into()
        );
    }
    Ok(roots)
}

fn trusted() -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is one that is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this host trusts no certificates; put a `package: { name: ca-certificates }` before it, or name a `ca_file`"
                .into(),
        );
    }
    Ok(roots)
}

/// Why the certificate of the other end is not believed, if that is what went wrong.
pub(super) fn distrust<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why);
    }
    // The source of an io::Error is that of what it wraps, which may be another one.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => distrust(wrapped),
        None => distrust(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(https_proxy: &str, no_proxy: &str, host: &str) -> Result<Option<String>, String> {
        let variables = [("https_proxy", https_proxy), ("no_proxy", no_proxy)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let proxies = Proxies::of(&BTreeMap::from(variables)).map_err(|error| error.to_string())?;
        let uri = format!("https://{host}/").parse().expect("an address");
        Ok(proxies.0.intercept(&uri).map(|proxy| proxy.uri().to_string()))
    }

    #[test]
    fn hosts_are_reached_through_the_proxy_that_is_for_them() {
        assert_eq!(proxy("", "", "a.b"), Ok(None));
        for written in ["http://u:p@proxy:3128", "proxy:3128"] {
            assert_eq!(proxy(written, "", "a.b"), Ok(Some("http://proxy:3128/".to_owned())), "{written}");
        }
        for except in ["a.b", ".b", "b, c", "*"] {
            assert_eq!(proxy("proxy:3128", except, "a.b"), Ok(None), "{except}");
        }
        assert_eq!(proxy("proxy:3128", "10.0.0.0/8", "10.1.2.3"), Ok(None));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_not_gone_around() {
        for wrong in ["socks5://u:hunter2@proxy", "http://", "ht tp://proxy"] {
            let error = proxy(wrong, "", "a.b").expect_err(wrong);
            assert_eq!(error, "`https_proxy` is not an `http://` or `https://` address of a proxy");
        }
    }

    #[test]
    fn distrust_is_found_in_whatever_it_is_wrapped() {
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::other(error));
        let unknown = CertificateError::UnknownIssuer;
        assert_eq!(distrust(&wrapped(unknown.clone().into())), Some(&unknown));
        assert_eq!(distrust(&wrapped(rustls::Error::DecryptError)), None);
        assert_eq!(distrust(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let error = |pem: &str| named(pem.as_bytes()).expect_err(pem).to_string();
        assert_eq!(
            error("hello"),
            "the `ca_file` has no certificate in it; it starts with `-----BEGIN CERTIFICATE-----`"
        );
        let not_one = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(error(not_one).starts_with("a certificate in the `ca_file` is not valid: "));
        assert!(error(&not_one.replace("aGVs", "!!")).starts_with("the `ca_file` is not PEM: "));
    }
}
