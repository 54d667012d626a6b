//! Just enough HTTP to ask a service, and to be one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// No test waits longer for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A request, as a service reads it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Request {
    /// Reads one from a connection; none if it was closed without one.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn read(stream: impl Read) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let mut request = Self {
            method: words.next().unwrap_or_default().into(),
            path: words.next().unwrap_or_default().into(),
            ..Self::default()
        };
        request.headers = headers(&mut reader)?;
        // Without a length there is none.
        request.body = body(&mut reader, &request.headers)?.unwrap_or_default();
        Ok(Some(request))
    }
}

/// Answers a request and closes the connection.
///
/// # Errors
/// When the other end is gone.
pub fn answer(mut stream: &TcpStream, status: u16, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

impl Answer {
    /// Sends it, with more headers, and closes the connection.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send(&self, mut stream: &TcpStream, more: &[(&str, &str)]) -> io::Result<()> {
        let own = ["content-length", "connection", "transfer-encoding", "date", "server"];
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = headers.filter(|(name, _)| !own.contains(name));
        let lines: String =
            kept.chain(more.iter().copied()).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (status, length) = (self.status, self.body.len());
        write!(
            stream,
            "HTTP/1.1 {status} X\r\n{lines}content-length: {length}\r\nconnection: close\r\n\r\n"
        )?;
        stream.write_all(self.body.as_bytes())
    }
}

/// Asks a service.
///
/// # Errors
/// When it cannot be reached, or does not answer.
pub fn ask(
    method: &str,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = Request { method: method.into(), path: path.into(), ..Request::default() };
    request.headers.insert("host".into(), address.into());
    let given = headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned()));
    request.headers.extend(given);
    request.body = body.to_vec();
    exchange(&stream, &request)
}

/// Sends a request over a connection, as the only one, and reads the answer.
///
/// # Errors
/// When there is no answer.
pub fn exchange(mut stream: impl Read + Write, request: &Request) -> io::Result<Answer> {
    let mut text = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if name != "connection" && name != "content-length" {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += &format!("content-length: {}\r\n\r\n", request.body.len());
    stream.write_all(text.as_bytes())?;
    stream.write_all(&request.body)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("`{}` is no answer", line.trim())))?;
    let headers = headers(&mut reader)?;
    let body = if let Some(body) = body(&mut reader, &headers)? {
        body
    } else {
        // It ends with the connection.
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        body
    };
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn headers(reader: &mut impl BufRead) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
        headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
    }
}

/// The body, if the headers tell its length.
fn body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    match headers.get("content-length").and_then(|length| length.parse().ok()) {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None if headers.contains_key("transfer-encoding") => loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        },
        None => return Ok(None),
    }
    Ok(Some(body))
}
