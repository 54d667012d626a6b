//! Servers that speak TLS, and do to their clients what servers on the internet do.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::http::Request;
use crate::world::done;

/// What openssl(1) has to know to make an authority and certificates for servers of this machine.
const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
";

/// An authority that nobody trusts who is not told to, and a server's certificate that it signed.
pub struct Authority {
    /// Its certificate, in PEM.
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn new() -> io::Result<Self> {
        let folder = TempDir::with_prefix("authority-")?;
        fs::write(folder.path().join("openssl.cnf"), CONFIG)?;
        let path = |name: &str| folder.path().join(name);
        let sign = |name: &str, arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.current_dir(folder.path()).args(["req", "-x509", "-config", "openssl.cnf", "-days", "2"]);
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]);
            command.args(["-subj", &format!("/CN={name}"), "-extensions", name]);
            command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
            done(command.args(arguments))
        };
        sign("authority", &[])?;
        sign("server", &["-CA", "authority.pem", "-CAkey", "authority.key"])?;
        let certificate = CertificateDer::from_pem_file(path("server.pem")).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(path("server.key")).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key));
        let config = Arc::new(config.map_err(io::Error::other)?);
        Ok(Self { pem: fs::read_to_string(path("authority.pem"))?, config })
    }

    /// Starts a server on a free port, which answers each request as it is told, from the first to the last.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn serve(&self, replies: Vec<Reply>) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Server { address: listener.local_addr()?, asked: Arc::default() };
        let (asked, config) = (Arc::clone(&server.asked), Arc::clone(&self.config));
        thread::spawn(move || {
            let mut replies = replies.into_iter();
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &config, &asked, &mut replies);
            }
        });
        Ok(server)
    }

    /// Starts a server on a free port that answers nothing, and returns where it is and all that it is told.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn collect(&self) -> io::Result<(SocketAddr, Arc<Mutex<String>>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let told = Arc::<Mutex<String>>::default();
        let (keeps, config) = (Arc::clone(&told), Arc::clone(&self.config));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, keeps) = (Arc::clone(&config), Arc::clone(&keeps));
                thread::spawn(move || hear(stream, config, &keeps));
            }
        });
        Ok((address, told))
    }
}

/// Keeps what is told until the connection ends.
fn hear(stream: TcpStream, config: Arc<ServerConfig>, told: &Mutex<String>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&String::from_utf8_lossy(&piece[..length]));
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Its status line and headers, without `Content-Length`.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
    /// After how many bytes of the body the connection is cut off; never if not said.
    pub cut_after: Option<usize>,
}

impl Reply {
    /// A whole answer.
    pub fn new(head: &str, body: &[u8]) -> Self {
        Self { head: head.into(), body: body.into(), cut_after: None }
    }
}

/// A server. It ends with the test.
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Every request so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers one request; a client that does not like the certificate asks nothing.
fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    asked: &Mutex<Vec<Request>>,
    replies: &mut impl Iterator<Item = Reply>,
) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let Some(request) = Request::read(&mut stream)? else { return Ok(()) };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let reply = replies.next().unwrap_or_else(|| Reply::new("HTTP/1.1 404 Not Found", b""));
    write!(
        stream,
        "{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reply.head.trim_end(),
        reply.body.len()
    )?;
    stream.write_all(&reply.body[..reply.cut_after.unwrap_or(reply.body.len())])?;
    if reply.cut_after.is_none() {
        stream.conn.send_close_notify();
    }
    stream.flush()
}

/// A proxy on a free port that connects to wherever it is asked to.
pub struct Proxy {
    /// Where it is.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    /// Starts it.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Self { address: listener.local_addr()?, asked: Arc::default() };
        let asked = Arc::clone(&proxy.asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = pass_on(&stream, &asked);
            }
        });
        Ok(proxy)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pass_on(mut client: &TcpStream, asked: &Mutex<Vec<Request>>) -> io::Result<()> {
    let Some(request) = Request::read(client)? else { return Ok(()) };
    let server = TcpStream::connect(&request.path)?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    let (mut from_client, mut to_client) = (client.try_clone()?, client.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    io::copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(std::net::Shutdown::Both)
}
