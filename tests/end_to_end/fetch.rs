//! What recipes fetch, from servers that do what servers on the internet do, on a folder that looks like a host.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use recipes::bundle::{Contents, pack};
use recipes::op::Content;
use recipes::recipe::Recipe;
use recipes::resolve::RecipeUse;
use recipes::system::Mode;
use serde_json::Map;
use tempfile::TempDir;
use testbed::binaries;
use testbed::https::{Authority, Proxy, Reply, Server};

use crate::Outcome;

/// A folder that looks like a host, and the authority of the servers that it fetches from.
struct Small {
    folder: TempDir,
    authority: Authority,
}

impl Small {
    fn new() -> Result<Self, Box<dyn Error>> {
        let (folder, authority) = (TempDir::with_prefix("small-")?, Authority::new()?);
        for path in ["etc", "run", "srv", "usr/lib", "var/lib", "var/cache"] {
            fs::create_dir_all(folder.path().join(path))?;
        }
        fs::write(folder.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n")?;
        fs::write(folder.path().join("etc/group"), "root:x:0:\n")?;
        fs::write(folder.path().join("usr/lib/os-release"), "ID=debian\n")?;
        fs::write(folder.path().join("etc/ca.pem"), &authority.pem)?;
        Ok(Self { folder, authority })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Has the agent put `/srv/file` there, from the path `/file` of a server.
    fn fetch(&self, server: &Server, content: &[u8]) -> Result<Fetch, Box<dyn Error>> {
        self.fetch_through(None, server, content)
    }

    fn fetch_through(
        &self,
        proxy: Option<&Proxy>,
        server: &Server,
        content: &[u8],
    ) -> Result<Fetch, Box<dyn Error>> {
        let bundle = TempDir::with_prefix("bundle-")?;
        let recipe = bundle.path().join("written/probe");
        fs::create_dir_all(&recipe)?;
        let resource = format!(
            "resources: [ {{ download: {{ url: \"https://{}/file?token=hidden\", sha256: {}, path: /srv/file, \
             ca_file: /etc/ca.pem, mode: \"0640\", max_bytes: 5000000 }} }} ]\n",
            server.address,
            Content::new(content).sha256()
        );
        fs::write(recipe.join("recipe.yaml"), resource)?;
        let recipe = Recipe::load(&recipe, "probe").map_err(|problems| problems.to_string())?;
        let uses = [RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None }];
        let contents = Contents { mode: Mode::Live, uses: &uses, checks: &[], services: &[] };
        for (path, bytes) in pack(&contents).map_err(|problem| problem.to_string())? {
            let path = bundle.path().join(path);
            fs::create_dir_all(path.parent().ok_or("a file is in a folder")?)?;
            fs::write(path, bytes)?;
        }
        let mut command = Command::new(binaries::agent()?);
        command.args(["apply", "--format=json", "--root"]).arg(self.folder.path()).arg(bundle.path());
        command.env_clear().stdin(Stdio::null());
        if let Some(proxy) = proxy {
            command.env("https_proxy", format!("http://me:hunter2@{}", proxy.address));
        }
        let Output { status, stdout, stderr } = command.output()?;
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        // A person is shown the line of the recipe, as its author wrote it.
        assert!(!String::from_utf8_lossy(&stdout).contains("hidden") && !said.contains("hunter2"), "{said}");
        Ok(Fetch { done: status.success(), said })
    }

    /// What is in a folder.
    fn names(&self, folder: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// How it ended.
#[derive(Debug)]
struct Fetch {
    done: bool,
    said: String,
}

/// More than one read and one record of TLS.
fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

const OK: &str = "HTTP/1.1 200 OK\r\nETag: \"one\"";

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was() -> Outcome {
    let (host, content) = (Small::new()?, content());
    let part = |from: usize| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes {from}-{}/{}",
            content.len() - 1,
            content.len()
        )
    };
    let server = host.authority.serve(vec![
        Reply { cut_after: Some(500_000), ..Reply::new(OK, &content) },
        Reply { cut_after: Some(100_000), ..Reply::new(&part(500_000), &content[500_000..]) },
        Reply::new(&part(600_000), &content[600_000..]),
    ])?;
    let fetched = host.fetch(&server, &content)?;
    assert!(fetched.done, "{fetched:?}");
    assert_eq!(fs::read(host.path("srv/file"))?, content);
    let mode = fs::metadata(host.path("srv/file"))?.permissions().mode();
    assert_eq!((mode & 0o7777, host.names("srv")?), (0o640, vec!["file".to_owned()]));
    let headers = |name: &str| -> Vec<Option<String>> {
        server.asked().iter().map(|request| request.headers.get(name).cloned()).collect()
    };
    let expected = |first: &str, second: &str| vec![None, Some(first.to_owned()), Some(second.to_owned())];
    assert_eq!(headers("range"), expected("bytes=500000-", "bytes=600000-"));
    assert_eq!(headers("if-range"), expected("\"one\"", "\"one\""));
    let again = host.fetch(&server, &content)?;
    assert!(again.done && server.asked().len() == 3, "nobody is asked for what is there: {again:?}");
    Ok(())
}

/// A server that gives no parts gives all of it, and so does one whose file is another now.
#[test]
fn a_server_that_ignores_ranges_is_understood() -> Outcome {
    let (host, content) = (Small::new()?, content());
    let server = host.authority.serve(vec![
        Reply { cut_after: Some(500_000), ..Reply::new(OK, &[7; 600_000]) },
        Reply::new("HTTP/1.1 200 OK\r\nETag: \"two\"", &content),
    ])?;
    let fetched = host.fetch(&server, &content)?;
    assert!(fetched.done, "{fetched:?}");
    assert_eq!(fs::read(host.path("srv/file"))?, content);
    assert_eq!(server.asked()[1].headers["range"], "bytes=500000-");
    Ok(())
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() -> Outcome {
    let host = Small::new()?;
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1";
    let server = host.authority.serve(vec![
        Reply::new(busy, b"busy"),
        Reply::new("HTTP/1.1 429 Too Many Requests", b""),
        Reply::new(OK, b"hello"),
    ])?;
    let fetched = host.fetch(&server, b"hello")?;
    assert!(fetched.done, "{fetched:?}");
    assert!(fetched.said.contains("503 Service Unavailable; trying again in 1.0 s"), "{fetched:?}");
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 86400";
    let server = host.authority.serve(vec![Reply::new(busy, b"")])?;
    let fetched = host.fetch(&server, b"another")?;
    assert!(!fetched.done && fetched.said.contains("come again in 86400 s only"), "{fetched:?}");
    let server = host.authority.serve(Vec::new())?;
    let fetched = host.fetch(&server, b"another")?;
    assert!(!fetched.done && fetched.said.contains("the server answered 404 Not Found"), "{fetched:?}");
    assert_eq!(server.asked().len(), 1);
    Ok(())
}

#[test]
fn redirects_are_followed_to_where_tls_is() -> Outcome {
    let host = Small::new()?;
    let server = host.authority.serve(vec![
        Reply::new("HTTP/1.1 302 Found\r\nLocation: /there?signature=hidden", b""),
        Reply::new("HTTP/1.1 307 Temporary Redirect\r\nLocation: ../where", b""),
        Reply::new(OK, b"hello"),
    ])?;
    let fetched = host.fetch(&server, b"hello")?;
    assert!(fetched.done, "{fetched:?}");
    let paths: Vec<String> = server.asked().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/file?token=hidden", "/there?signature=hidden", "/where"]);
    let plain = format!("HTTP/1.1 301 Moved\r\nLocation: http://{}/file", server.address);
    let server = host.authority.serve(vec![Reply::new(&plain, b"")])?;
    let fetched = host.fetch(&server, b"another")?;
    assert!(!fetched.done && fetched.said.contains("is not an `https://` address"), "{fetched:?}");
    let server = host.authority.serve(vec![Reply::new("HTTP/1.1 302 Found\r\nLocation: /file", b""); 20])?;
    let fetched = host.fetch(&server, b"another")?;
    assert!(!fetched.done && fetched.said.contains("it redirects more than 10 times"), "{fetched:?}");
    assert_eq!(server.asked().len(), 11);
    Ok(())
}

#[test]
fn what_is_not_as_it_shall_be_leaves_what_was_there() -> Outcome {
    let host = Small::new()?;
    fs::write(host.path("srv/file"), "old")?;
    let server = host.authority.serve(vec![Reply::new(OK, b"HELLO")])?;
    let fetched = host.fetch(&server, b"hello")?;
    let (expected, got) = (Content::new("hello").sha256(), Content::new("HELLO").sha256());
    assert!(!fetched.done, "{fetched:?}");
    for part in [expected.as_str(), &got, "5 bytes", "/file?..."] {
        assert!(fetched.said.contains(part), "{part}: {fetched:?}");
    }
    let server = host.authority.serve(vec![Reply::new(OK, &vec![0; 6_000_000])])?;
    let fetched = host.fetch(&server, b"hello")?;
    assert!(!fetched.done && fetched.said.contains("it has 6000000 bytes, more than 5000000"), "{fetched:?}");
    assert_eq!(
        (fs::read(host.path("srv/file"))?, host.names("srv")?),
        (b"old".to_vec(), vec!["file".into()])
    );
    Ok(())
}

#[test]
fn a_server_whose_certificate_nobody_signed_that_is_believed_is_not_asked() -> Outcome {
    let host = Small::new()?;
    let server = Authority::new()?.serve(vec![Reply::new(OK, b"hello")])?;
    let fetched = host.fetch(&server, b"hello")?;
    assert!(!fetched.done, "{fetched:?}");
    assert!(fetched.said.contains("the certificate of `127.0.0.1` is not to be believed"), "{fetched:?}");
    assert_eq!(server.asked().len(), 0);
    assert_eq!(host.names("srv")?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_proxy_is_gone_through() -> Outcome {
    let (host, proxy) = (Small::new()?, Proxy::start()?);
    let server = host.authority.serve(vec![Reply::new(OK, b"hello")])?;
    let fetched = host.fetch_through(Some(&proxy), &server, b"hello")?;
    assert!(fetched.done, "{fetched:?}");
    let asked = proxy.asked();
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "CONNECT"));
    assert_eq!(asked[0].path, server.address.to_string());
    // `me:hunter2`
    assert_eq!(asked[0].headers["proxy-authorization"], "Basic bWU6aHVudGVyMg==");
    Ok(())
}
