//! Plain HTTP requests with a time limit: for the instance metadata service and for checks.
//!
//! Neither needs TLS, proxies or redirects; both must go exactly where they are told.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// No answer that is looked at is longer.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not one that can be asked.
    #[error("`{0}` is not an http:// URL with a host")]
    Url(String),
    /// Nobody could be reached.
    #[error("failed to connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long to reach anybody.
    #[error("{0} did not accept the connection in time")]
    ConnectTimeout(String),
    /// Somebody was reached and did not answer in time.
    #[error("{0} accepted the connection and did not answer in time")]
    AnswerTimeout(String),
    /// The answer was not HTTP, was cut off, or was too long.
    #[error("{address} did not answer as it should")]
    Answer {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Asks once.
///
/// # Errors
/// When there is no answer within the limit. An answer with any status is an answer.
pub async fn ask(
    method: Method,
    url: &str,
    headers: &[(&'static str, &str)],
    limit: Duration,
) -> Result<Answer, HttpError> {
    let deadline = Instant::now() + limit;
    let uri: Uri = url.parse().map_err(|_| HttpError::Url(url.into()))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::Url(url.into()));
    };
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let wrong = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Answer {
        address: address.clone(),
        source,
    };
    let stream = match timeout_at(deadline, TcpStream::connect(&address)).await {
        Err(_) => return Err(HttpError::ConnectTimeout(address)),
        Ok(Err(source)) => return Err(HttpError::Connect { address, source }),
        Ok(Ok(stream)) => stream,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| HttpError::Url(url.into()))?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HttpError::Url(url.into()))?;
    request.headers_mut().insert(HOST, host);
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| wrong(error.into()))?;
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    let answered = timeout_at(deadline, exchange(stream, request)).await;
    match answered {
        Err(_) => Err(HttpError::AnswerTimeout(address)),
        Ok(Err(source)) => Err(wrong(source)),
        Ok(Ok(answer)) => Ok(answer),
    }
}

async fn exchange(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let (response, _) = tokio::join!(
        async move {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes().to_vec();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        },
        connection,
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes, or accepts it and says nothing.
    async fn answering(bytes: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/path?x=1", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            if bytes.is_empty() {
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            let _ = stream.write_all(bytes).await;
        });
        url
    }

    async fn get(url: &str) -> Result<Answer, HttpError> {
        ask(Method::GET, url, &[("x-test", "1")], Duration::from_millis(500)).await
    }

    #[tokio::test]
    async fn any_status_is_an_answer() {
        let url =
            answering(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy")
                .await;
        let answer = get(&url).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (503, &b"busy"[..]));
        assert_eq!(answer.headers["retry-after"], "2");
    }

    #[tokio::test]
    async fn silence_refusal_and_nonsense_are_told_apart() {
        assert!(matches!(get(&answering(b"").await).await, Err(HttpError::AnswerTimeout(_))));
        assert!(matches!(get("http://127.0.0.1:1/").await, Err(HttpError::Connect { .. })));
        assert!(matches!(get(&answering(b"SSH-2.0\r\n\r\n").await).await, Err(HttpError::Answer { .. })));
        let cut = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        assert!(matches!(get(&cut).await, Err(HttpError::Answer { .. })));
        for url in ["https://localhost/", "localhost", "http://"] {
            assert!(matches!(get(url).await, Err(HttpError::Url(_))), "{url}");
        }
    }
}
