//! The service as early boot finds it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A service that gives scripted answers, one a request, and records what it was asked.
struct Scripted {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

const TOKEN: (u16, &str) = (200, "the-token");
/// Accepts the connection and never answers.
const SILENCE: (u16, &str) = (0, "");
/// Promises more than it sends.
const CUT: (u16, &str) = (200, "cut");
/// Wants not to be asked for a second.
const BUSY: (u16, &str) = (503, "busy");

impl Scripted {
    async fn new(answers: &[(u16, &'static str)]) -> Self {
        Self::at("127.0.0.1:0", answers).await
    }

    async fn at(address: &str, answers: &[(u16, &'static str)]) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, mut answers) = (Arc::clone(&asked), VecDeque::from(answers.to_vec()));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 2048];
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let line = request.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
                let with_token = request.contains("x-aws-ec2-metadata-token: the-token");
                record.lock().expect("not poisoned").push(if with_token {
                    format!("{line} +token")
                } else {
                    line
                });
                let (status, body) = answers.pop_front().unwrap_or((500, "no more answers"));
                if (status, body) == SILENCE {
                    tokio::spawn(async move {
                        sleep(Duration::from_mins(10)).await;
                        drop(stream);
                    });
                    continue;
                }
                let length = if (status, body) == CUT { 100 } else { body.len() };
                let again = if (status, body) == BUSY { "Retry-After: 1\r\n" } else { "" };
                let answer = format!("HTTP/1.1 {status} X\r\n{again}Content-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { endpoint, asked }
    }

    fn metadata(&self) -> Metadata {
        Metadata::new(Some(&self.endpoint), Duration::from_secs(5))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

#[tokio::test]
async fn one_token_is_enough_for_a_boot_of_five_requests() {
    let document = r#"{"instanceId":"i-1","region":"us-east-1","availabilityZone":"us-east-1a","instanceType":"m7g.large","imageId":"ami-1","accountId":"111122223333","privateIp":"10.0.0.1","extra":null}"#;
    let credentials = r#"{"Code":"Success","AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
    let service = Scripted::new(&[
        TOKEN,
        (200, "#!user-data"),
        (200, document),
        (200, "web-role\n"),
        (200, credentials),
    ])
    .await;
    let metadata = service.metadata();
    assert_eq!(metadata.user_data().await.expect("told").as_deref(), Some(&b"#!user-data"[..]));
    assert_eq!(metadata.identity().await.expect("told").region, "us-east-1");
    assert_eq!(metadata.role_credentials().await.expect("told").token, "t");
    assert_eq!(
        service.asked(),
        [
            "PUT /latest/api/token",
            "GET /latest/user-data +token",
            "GET /latest/dynamic/instance-identity/document +token",
            "GET /latest/meta-data/iam/security-credentials/ +token",
            "GET /latest/meta-data/iam/security-credentials/web-role +token",
        ]
    );
    assert_eq!(metadata.requests(), 5);
    assert_eq!(metadata.effort().so_far(), (5, 5), "each was tried once");
}

#[tokio::test]
async fn early_boot_is_waited_for() {
    let service = Scripted::new(&[(503, ""), TOKEN, (401, ""), TOKEN, (500, ""), (200, "data")]).await;
    assert_eq!(service.metadata().user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
    let none = Scripted::new(&[TOKEN, (404, ""), (404, "")]).await;
    assert_eq!(none.metadata().user_data().await.expect("told"), None);
}

#[tokio::test]
async fn a_service_that_is_not_there_yet_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let metadata = Metadata::new(Some(&format!("http://{address}")), Duration::from_millis(300));
    let error = metadata.user_data().await.expect_err("nobody is there");
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
    assert!(metadata.requests() > 1, "it was tried again");
    assert_eq!(metadata.effort().so_far(), (1, metadata.requests()));
}

#[tokio::test]
async fn user_data_that_is_not_there_yet_is_asked_for_again() {
    let service = Scripted::new(&[TOKEN, (404, ""), (200, "data")]).await;
    assert_eq!(service.metadata().user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
}

#[tokio::test]
async fn what_is_no_token_is_not_taken_for_one_nor_for_an_answer() {
    for wrong in [(404, ""), (400, ""), (200, ""), (200, "<html>\nlog in</html>"), (405, "")] {
        let service = Scripted::new(&[wrong, TOKEN, (200, "data")]).await;
        let data = service.metadata().user_data().await.expect("told");
        assert_eq!(data.as_deref(), Some(&b"data"[..]), "{wrong:?}");
        assert_eq!(service.asked().len(), 3, "{wrong:?}");
    }
    let service = Scripted::new(&[(404, ""); 100]).await;
    let metadata = Metadata::new(Some(&service.endpoint), Duration::from_millis(300));
    let error = metadata.user_data().await.expect_err("never a token");
    assert_eq!(
        crate::boot::error::chain(&error),
        "the instance metadata service did not tell `/latest/user-data` within 0 s: the answer to the request for a token was 404"
    );
}

#[tokio::test]
async fn answers_that_are_cut_off_or_never_come_are_asked_for_again() {
    let service = Scripted::new(&[TOKEN, CUT, (200, "data")]).await;
    assert_eq!(service.metadata().user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
    let service = Scripted::new(&[TOKEN, SILENCE, (200, "data")]).await;
    assert_eq!(service.metadata().user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
}

#[tokio::test]
async fn a_service_that_wants_to_be_left_alone_is() {
    let service = Scripted::new(&[TOKEN, BUSY, (200, "data")]).await;
    let began = Instant::now();
    service.metadata().user_data().await.expect("told");
    assert!(began.elapsed() >= Duration::from_secs(1), "as long as it said");
    let service = Scripted::new(&[TOKEN, BUSY]).await;
    let metadata = Metadata::new(Some(&service.endpoint), Duration::from_millis(900));
    let error = metadata.user_data().await.expect_err("longer than anybody waits");
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
    assert_eq!(service.asked().len(), 2, "it is not asked sooner");
}

#[tokio::test]
async fn a_service_that_is_only_there_for_ipv6_is_found() {
    let answers = [TOKEN, (200, "data"), (200, "data")];
    let service = Scripted::at("[::1]:0", &answers).await;
    let metadata = Metadata {
        endpoints: vec!["http://127.0.0.1:1".into(), service.endpoint.clone()],
        ..Metadata::new(None, Duration::from_secs(5))
    };
    assert!(!metadata.is_ipv6());
    let began = Instant::now();
    assert_eq!(metadata.user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
    assert!(began.elapsed() < FIRST_WAIT, "without a wait in between");
    metadata.user_data().await.expect("told");
    assert_eq!(metadata.requests(), 4, "the other address was tried once");
    assert!(metadata.is_ipv6());
}

#[tokio::test]
async fn both_addresses_are_tried_until_patience_ends() {
    let metadata = Metadata {
        endpoints: vec!["http://127.0.0.1:1".into(), "http://[::1]:1".into()],
        ..Metadata::new(None, Duration::from_millis(300))
    };
    let error = metadata.user_data().await.expect_err("nobody");
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
    assert!(metadata.requests() >= 4, "{}", metadata.requests());
}

#[tokio::test]
async fn a_role_may_appear_later_than_the_instance() {
    let credentials =
        r#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
    let service =
        Scripted::new(&[TOKEN, (404, ""), (200, "role"), (404, ""), (200, "role"), (200, credentials)]).await;
    assert_eq!(service.metadata().role_credentials().await.expect("told").access_key_id, "a");
    let broken = Scripted::new(&[TOKEN, (200, "role"), (200, "secret nonsense")]).await;
    let error = broken.metadata().role_credentials().await.err().expect("not credentials");
    assert!(!format!("{error:?}").contains("secret nonsense"));
}

#[tokio::test]
async fn what_is_final_is_said_at_once() {
    let service = Scripted::new(&[(403, "")]).await;
    let error = service.metadata().user_data().await.expect_err("disabled");
    assert!(matches!(error, MetadataError::Disabled(_)));
    assert!(error.advice().is_some_and(|advice| advice.contains("HttpEndpoint")));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_comes_is_the_hop_limit() {
    let service = Scripted::new(&[SILENCE, SILENCE, SILENCE]).await;
    let metadata = Metadata::new(Some(&service.endpoint), Duration::from_mins(1));
    let error = metadata.user_data().await.expect_err("no token");
    assert!(matches!(error, MetadataError::NoToken), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("HttpPutResponseHopLimit")));
}
