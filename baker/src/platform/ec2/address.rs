//! The address of this machine, as a builder will see it.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::failure::Failure;

/// The address of this machine towards a network, as a network of one.
///
/// # Errors
/// When there is no way there.
pub(super) fn towards(network: &str) -> io::Result<String> {
    let first = network.split('/').next().unwrap_or_default();
    let target: IpAddr = first.parse().map_err(|_| io::Error::other(format!("`{network}` is no network")))?;
    // Nothing is sent: a datagram socket that is connected knows its own address (ip(7)).
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(target, 9))?;
    Ok(alone(socket.local_addr()?.ip()))
}

fn alone(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// The address of this machine as the internet sees it. AWS tells it to whoever asks.
pub(super) async fn seen_from_outside() -> Result<String, Failure> {
    const SERVICE: &str = "https://checkip.amazonaws.com/";
    let help = "name the networks that are admitted with `admit` under `builder: ec2: ssh:`, such as `[ 203.0.113.7/32 ]`, \
                or connect to the private address with `address: private`";
    let wrong = |why: String| {
        Failure::new(format!("failed to ask {SERVICE} for the address of this machine: {why}")).help(help)
    };
    let text = get(SERVICE).await.map_err(wrong)?;
    let address: IpAddr =
        text.trim().parse().map_err(|_| wrong(format!("`{}` is no address", text.trim())))?;
    Ok(alone(address))
}

/// A short text from an HTTPS server.
async fn get(url: &'static str) -> Result<String, String> {
    const LIMIT: Duration = Duration::from_secs(10);
    const LONGEST: usize = 1024;
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| error.to_string())?
        .https_only()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let answer = tokio::time::timeout(LIMIT, async {
        let answer =
            client.get(hyper::Uri::from_static(url)).await.map_err(|error| match error.source() {
                Some(cause) => cause.to_string(),
                None => error.to_string(),
            })?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| error.to_string())?;
        if status.is_success() {
            Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
        } else {
            Err(format!("it answers {status}"))
        }
    });
    answer.await.unwrap_or_else(|_| Err(format!("there was no answer in {} s", LIMIT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towards_itself_a_machine_is_itself() {
        assert_eq!(towards("127.0.0.0/8").expect("there is a way"), "127.0.0.1/32");
        assert!(towards("x/8").is_err());
    }
}
