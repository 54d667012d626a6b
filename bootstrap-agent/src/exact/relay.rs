//! A proxy of HTTP (RFC 9110, 3.7): what asks it from inside a world is connected from outside, the way the host itself would be.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener as Listener, TcpStream};
use tokio::time::timeout;

/// No head of a request is longer than what servers take.
const LONGEST_HEAD: usize = 64 * 1024;

const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Serves who connects, for as long as it is polled. `proxies` is how the host itself reaches others.
pub(super) async fn serve(listener: TcpListener, proxies: &BTreeMap<String, String>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = Listener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let proxies = proxies.clone();
        tokio::spawn(async move { pass_on(client, &proxies).await });
    }
}

async fn pass_on(mut client: TcpStream, proxies: &BTreeMap<String, String>) {
    if let Err(error) = connect_through(&mut client, proxies).await {
        let answer = format!(
            "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n{error}\n"
        );
        let _ = client.write_all(answer.as_bytes()).await;
    }
}

async fn connect_through(client: &mut TcpStream, proxies: &BTreeMap<String, String>) -> io::Result<()> {
    let (head, rest) = read_head(client).await?;
    let asked = Asked::parse(&head)?;
    let next = next_proxy(&asked, proxies)?;
    let (address, head) = match &next {
        None => (asked.address(80), asked.to_server()),
        Some(Next { address, authorization }) => (address.clone(), asked.to_proxy(authorization.as_deref())),
    };
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(&address)).await;
    let mut server = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if asked.is_tunnel() && next.is_none() {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        server.write_all(head.as_bytes()).await?;
    }
    if asked.has_no_body() {
        // What follows is the next request, which this server may not be the one for. The client asks again.
        copy(&mut server, client).await?;
        return client.shutdown().await;
    }
    server.write_all(&rest).await?;
    copy_bidirectional(client, &mut server).await.map(drop)
}

/// The head of a request, and what came with it that is behind it.
async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
            let rest = bytes.split_off(end + END.len());
            let head = String::from_utf8(bytes).map_err(io::Error::other)?;
            return Ok((head, rest));
        }
        if bytes.len() > LONGEST_HEAD || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("that is not a request"));
        }
    }
}

/// What a client asks a proxy for.
#[derive(Debug)]
struct Asked<'a> {
    method: &'a str,
    /// `http://HOST/PATH`, or `HOST:PORT` for a tunnel.
    target: Uri,
    /// The lines behind the first that are not about this connection.
    lines: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(head: &'a str) -> io::Result<Self> {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let target: Uri = target.parse().map_err(io::Error::other)?;
        let is_asked = if method == "CONNECT" {
            target.port().is_some()
        } else {
            target.scheme_str() == Some("http") && target.host().is_some()
        };
        if !is_asked {
            return Err(io::Error::other(format!("a proxy of HTTP is not asked for `{method} {target}`")));
        }
        let is_of_connection = |line: &str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            ["connection", "keep-alive", "proxy-authorization", "proxy-connection"].contains(&name.as_str())
        };
        let lines = lines.filter(|line| !line.is_empty() && !is_of_connection(line)).collect();
        Ok(Self { method, target, lines })
    }

    fn is_tunnel(&self) -> bool {
        self.method == "CONNECT"
    }

    fn has_no_body(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// Where the server is.
    fn address(&self, port: u16) -> String {
        format!("{}:{}", self.target.host().unwrap_or_default(), self.target.port_u16().unwrap_or(port))
    }

    /// The head as the server itself gets it.
    fn to_server(&self) -> String {
        let path = self.target.path_and_query().map_or("/", |path| path.as_str());
        self.head(path, None)
    }

    /// The head as another proxy gets it.
    fn to_proxy(&self, authorization: Option<&str>) -> String {
        self.head(&self.target.to_string(), authorization)
    }

    fn head(&self, target: &str, authorization: Option<&str>) -> String {
        let mut head = format!("{} {target} HTTP/1.1\r\n", self.method);
        for line in &self.lines {
            head += &format!("{line}\r\n");
        }
        if let Some(authorization) = authorization {
            head += &format!("Proxy-Authorization: {authorization}\r\n");
        }
        if !self.is_tunnel() {
            head += "Connection: close\r\n";
        }
        head + "\r\n"
    }
}

/// The proxy that the host itself goes through.
#[derive(Debug)]
struct Next {
    address: String,
    authorization: Option<String>,
}

fn next_proxy(asked: &Asked<'_>, variables: &BTreeMap<String, String>) -> io::Result<Option<Next>> {
    let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let (http, https) = (value("http_proxy"), value("https_proxy"));
    let matcher = Matcher::builder().http(http).https(https).no(value("no_proxy")).build();
    let uri = if asked.is_tunnel() {
        format!("https://{}", asked.target).parse().map_err(io::Error::other)?
    } else {
        asked.target.clone()
    };
    let Some(proxy) = matcher.intercept(&uri) else { return Ok(None) };
    if proxy.uri().scheme_str() != Some("http") {
        // Its address may have a password in it.
        return Err(io::Error::other("an exact plan goes only through a proxy with an `http://` address"));
    }
    let host = proxy.uri().host().unwrap_or_default();
    let address = format!("{host}:{}", proxy.uri().port_u16().unwrap_or(80));
    let authorization = proxy.basic_auth().and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Some(Next { address, authorization }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET http://deb.example.org/a?b HTTP/1.1\r\nHost: deb.example.org\r\nProxy-Connection: keep-alive\r\n\r\n";
    const CONNECT: &str = "CONNECT deb.example.org:443 HTTP/1.1\r\nHost: deb.example.org:443\r\n\r\n";

    #[test]
    fn a_server_is_asked_for_a_path_and_a_proxy_for_an_address() {
        let asked = Asked::parse(GET).expect("a request");
        assert_eq!(asked.address(80), "deb.example.org:80");
        assert_eq!(
            asked.to_server(),
            "GET /a?b HTTP/1.1\r\nHost: deb.example.org\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            asked.to_proxy(Some("Basic eA==")),
            "GET http://deb.example.org/a?b HTTP/1.1\r\nHost: deb.example.org\r\nProxy-Authorization: Basic eA==\r\nConnection: close\r\n\r\n"
        );
        let tunnel = Asked::parse(CONNECT).expect("a request");
        assert!(tunnel.is_tunnel() && !tunnel.has_no_body());
        assert_eq!(tunnel.address(80), "deb.example.org:443");
        for wrong in
            ["", "GET /a HTTP/1.1\r\n\r\n", "GET ftp://a/b HTTP/1.1\r\n\r\n", "CONNECT a HTTP/1.1\r\n\r\n"]
        {
            assert!(Asked::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_way_out_is_that_of_the_host() {
        let variables = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let next = |head: &str, pairs: &[(&str, &str)]| {
            next_proxy(&Asked::parse(head).expect("a request"), &variables(pairs))
        };
        assert!(next(GET, &[]).expect("none").is_none());
        let http = [("http_proxy", "http://user:word@proxy:3128"), ("no_proxy", "other.example.org")];
        let found = next(GET, &http).expect("valid").expect("a proxy");
        assert_eq!(found.address, "proxy:3128");
        assert!(found.authorization.is_some_and(|value| value.starts_with("Basic ")));
        assert!(next(CONNECT, &http).expect("none").is_none());
        assert!(
            next(GET, &[("http_proxy", "http://proxy"), ("no_proxy", "example.org")])
                .expect("none")
                .is_none()
        );
        let error = next(CONNECT, &[("https_proxy", "https://proxy")]).expect_err("it is over TLS");
        assert!(error.to_string().contains("http://"));
    }
}
