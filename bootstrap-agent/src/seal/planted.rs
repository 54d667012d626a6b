//! Tests of the leak scan: secrets of many kinds, planted in a tree in many ways. Each is made here, at random and from parts, so that none
//! is in this repository.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

use super::gate::{Allowed, Gate, Secret};
use super::scan::scan;

const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";

/// Always the same, so that a test that fails can be looked at.
struct Random(fastrand::Rng);

impl Random {
    fn of(&mut self, alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| letters[self.0.usize(..letters.len())]).collect()
    }

    fn any(&mut self, length: usize) -> String {
        self.of(ALPHANUMERIC, length)
    }

    fn key(&mut self, kind: &str) -> String {
        let lines: String = (0..6).map(|_| format!("{}\n", self.any(64))).collect();
        format!("-----BEGIN {kind}-----\n{lines}-----END {kind}-----\n")
    }
}

fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, bytes).expect("written");
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(super) fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, name, bytes).expect("in memory");
    builder.into_inner().expect("in memory")
}

pub(super) fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("in memory");
    writer.write_all(bytes).expect("in memory");
    writer.finish().expect("in memory").into_inner()
}

/// What `program ARGUMENTS < bytes` prints.
fn through(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut input = tempfile::tempfile().expect("a file");
    input.write_all(bytes).expect("written");
    std::io::Seek::rewind(&mut input).expect("rewound");
    let output = Command::new(program).stdin(input).output().expect("it runs");
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// Files of hosts, each with one secret, by where it is.
#[expect(clippy::too_many_lines, reason = "one list")]
fn plants(random: &mut Random) -> Vec<(&'static str, Vec<u8>)> {
    let r = random;
    let mut plants: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut plant = |path: &'static str, text: String| plants.push((path, text.into_bytes()));
    // Keys.
    plant("etc/app/server.key", r.key("RSA PRIVATE KEY"));
    plant("home/ada/.ssh/id_ed25519", r.key("OPENSSH PRIVATE KEY"));
    plant("etc/ssl/private/site.pem", format!("# site\n{}", r.key("PRIVATE KEY")));
    plant("etc/openvpn/ta.key", r.key("OpenVPN Static key V1"));
    plant("root/backup.asc", r.key("PGP PRIVATE KEY BLOCK").replace("K-----\n", "K-----\n\n"));
    plant(
        "etc/gcp.json",
        format!(
            r#"{{"type": "service_account", "private_key": "{}"}}"#,
            r.key("PRIVATE KEY").replace('\n', "\\n")
        ),
    );
    plant("etc/wireguard/wg0.conf", format!("[Interface]\n{}Key = {}=\n", "Private", r.any(43)));
    plant(
        "opt/age/keys.txt",
        format!("AGE-SECRET-{}{}", "KEY-1", r.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    );
    plant(
        "srv/keys/session.ppk",
        format!("PuTTY-User-Key-{}-3: ssh-rsa\nComment: x\nPrivate-Lines: 1\n{}\n", "File", r.any(64)),
    );
    // Clouds.
    plant(
        "home/ada/.bashrc",
        format!("export AWS_ACCESS_KEY_ID=AK{}{}\n", "IA", r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
    );
    plant("etc/app/aws.ini", format!("aws_secret_access_{} = {}\n", "key", r.any(40)));
    plant(
        "etc/app/azure.env",
        format!("STORAGE=DefaultEndpointsProtocol=https;AccountName=x;Account{}={}==\n", "Key", r.any(86)),
    );
    plant("etc/app/maps.js", format!("key: 'AI{}{}'\n", "za", r.any(35)));
    plant("etc/do.yaml", format!("token: dop_{}_{}\n", "v1", r.of(HEX, 64)));
    plant("etc/cloudflare.ini", format!("cloudflare_api_key = {}\n", r.of(HEX, 37)));
    // Tokens of services.
    plant("opt/ci/github", format!("gh{}_{}\n", "p", r.any(36)));
    plant("opt/ci/github-fine", format!("github_{}_{}\n", "pat", r.any(82)));
    plant("opt/ci/gitlab", format!("gl{}-{}\n", "pat", r.any(20)));
    plant(
        "opt/ci/slack",
        format!("xo{}-{}-{}-{}\n", "xb", r.of("123456789", 12), r.of("123456789", 12), r.any(24)),
    );
    plant(
        "opt/ci/hook",
        format!("https://hooks.{}.com/services/T{}/B{}/{}\n", "slack", r.any(10), r.any(10), r.any(24)),
    );
    plant("opt/ci/npmrc", format!("//registry/:_authToken=np{}_{}\n", "m", r.any(36)));
    plant("opt/ci/pypi", format!("pypi-{}{}\n", "AgEIcHlwaS5vcmc", r.any(70)));
    plant("opt/ci/docker", format!("dckr_{}_{}\n", "pat", r.any(27)));
    plant("opt/shop/stripe.env", format!("STRIPE=sk_{}_{}\n", "live", r.any(24)));
    plant("opt/shop/sendgrid.env", format!("MAIL=S{}.{}.{}\n", "G", r.any(22), r.any(43)));
    plant("opt/shop/twilio.env", format!("SID=S{}{}\n", "K", r.of(HEX, 32)));
    plant("opt/shop/shopify.env", format!("X=shp{}_{}\n", "at", r.of(HEX, 32)));
    plant("etc/vault-agent", format!("hv{}.{}\n", "s", r.any(95)));
    plant("etc/terraform.rc", format!("{}.atlas{}.{}\n", r.any(14), "v1", r.any(65)));
    plant("etc/grafana.ini", format!("gl{}_{}_{}\n", "sa", r.any(32), r.of(HEX, 8)));
    plant("etc/datadog.yaml", format!("datadog_api_key: {}\n", r.of(LOWER, 40)));
    plant(
        "etc/newrelic.yml",
        format!("license: NR{}-{}\n", "AK", r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 27)),
    );
    plant("opt/ml/huggingface", format!("h{}_{}\n", "f", r.of("abcdefghijklmnopqrstuvwxyz", 34)));
    plant("opt/ml/anthropic.env", format!("sk-{}-api03-{}AA\n", "ant", r.any(93)));
    plant("opt/bot/telegram", format!("{}:A{}{}\n", r.of("123456789", 9), "A", r.any(33)));
    plant("opt/bot/session.jwt", format!("ey{}{}.ey{}{}.{}\n", "J", r.any(30), "J", r.any(60), r.any(43)));
    // Passwords.
    plant("etc/app/database.yml", format!("url: postgres://app:{}@db.internal/app\n", r.any(14)));
    plant("etc/app/cache.env", format!("REDIS=redis://:{}@cache:6379/0\n", r.any(16)));
    plant(
        "etc/systemd/system/app.service.d/env.conf",
        format!("[Service]\nEnvironment=DB_PASSWORD={}\n", r.any(18)),
    );
    plant("etc/default/worker", format!("API_TOKEN='{}'\n", r.any(32)));
    plant("etc/environment", format!("SECRET_KEY_BASE={}\n", r.of(HEX, 64)));
    plant("srv/app/config.json", format!("{{\"smtp\": {{\"password\": \"{}\"}}}}\n", r.any(16)));
    plant("srv/app/settings.py", format!("SECRET_KEY = '{}'\n", r.any(50)));
    plant("srv/app/application.properties", format!("spring.datasource.password={}\n", r.any(16)));
    plant("etc/nginx/htpasswd", format!("ada:$apr1${}${}\n", r.any(8), r.any(22)));
    plant("etc/shadow", format!("root:*:1::::::\nada:$y$j9T${}${}:1::::::\n", r.any(22), r.any(43)));
    plant("opt/backup.sh", format!("curl -H 'Authorization: Bearer {}' https://backup\n", r.any(40)));
    // By their names.
    plant("root/.netrc", format!("machine x login y password {}\n", r.any(12)));
    plant("home/ada/.pgpass", format!("db:5432:app:app:{}\n", r.any(12)));
    plant("home/ada/.kube/config", "clusters: []\n".into());
    plant(
        "srv/jenkins/.docker/config.json",
        format!("{{\"auths\": {{\"r\": {{\"auth\": \"{}\"}}}}}}\n", r.any(24)),
    );
    // Packed, encoded, and in databases.
    let key = r.key("RSA PRIVATE KEY");
    plants.push(("opt/app-1.0.tar.gz", gzip(&tar("app/key.pem", key.as_bytes()))));
    plants.push((
        "opt/site.war",
        zip("WEB-INF/app.properties", format!("db.password={}\n", r.any(16)).as_bytes()),
    ));
    plants.push(("srv/old.tar", tar("old.gz", &gzip(format!("gh{}_{}", "o", r.any(36)).as_bytes()))));
    plants.push((
        "srv/logs/app.log.xz",
        through("xz", format!("AK{}{} ", "IA", r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 16)).as_bytes()),
    ));
    plants.push((
        "srv/dump.sql.zst",
        through("zstd", format!("INSERT ('gl{}-{}');", "pat", r.any(20)).as_bytes()),
    ));
    plants.push((
        "etc/kubernetes/secret.yaml",
        format!(
            "tls.key: {}",
            String::from_utf8_lossy(&through("base64", r.key("RSA PRIVATE KEY").as_bytes()))
                .replace('\n', "")
        )
        .into_bytes(),
    ));
    let row = format!("\x06\x17\x17\x01Utoken gh{}_{}\0", "s", r.any(36));
    let page = [b"SQLite format 3\0".as_slice(), &[0; 4000], row.as_bytes(), &[0; 60]];
    plants.push(("var/lib/app/app.sqlite", page.concat()));
    plants.push((
        "var/lib/deploy/cache.bin",
        [&[0xff, 0, 0x80], format!("pass {BAKE_SECRET}").as_bytes()].concat(),
    ));
    plants.push(("var/lib/deploy/value", through("base64", format!("user:{BAKE_SECRET}").as_bytes())));
    plants
}

/// What the bake itself used: any text.
const BAKE_SECRET: &str = "correct horse battery staple";

fn gate() -> Gate {
    let secret = Secret { name: "DEPLOY_TOKEN".into(), value: BAKE_SECRET.into() };
    Gate { secrets: vec![secret], ..Gate::default() }
}

#[test]
fn secrets_of_many_kinds_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 1..6 {
        let plants = plants(&mut Random(fastrand::Rng::with_seed(seed)));
        assert!(plants.len() >= 60, "{} are planted", plants.len());
        for (path, bytes) in &plants {
            put(folder.path(), path, bytes);
        }
        let scanned = scan(folder.path(), &gate()).expect("scanned");
        let is_found = |path: &str| scanned.findings.iter().any(|finding| finding.path[1..] == *path);
        let missed: Vec<&str> = plants.iter().map(|(path, _)| *path).filter(|path| !is_found(path)).collect();
        assert!(missed.is_empty(), "of {} are missed, with seed {seed}: {missed:?}", plants.len());
    }
}

#[test]
fn what_is_found_is_named_and_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = format!("gh{}_{}", "p", "a1B2".repeat(9));
    put(folder.path(), "opt/ci/env", format!("x\nTOKEN={token}\n"));
    put(folder.path(), "root/.aws/credentials", "x");
    put(folder.path(), "srv/x", format!("a {BAKE_SECRET}"));
    let found = scan(folder.path(), &gate()).expect("scanned").findings;
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "a GitHub token in /opt/ci/env:2",
            "AWS credentials in /root/.aws/credentials",
            "DEPLOY_TOKEN, a secret of the bake, in /srv/x:1"
        ]
    );
}

#[test]
fn what_only_looks_like_a_leak_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in [
        ("usr/bin/ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\0-----END"),
        ("etc/a", "AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"),
        ("etc/b", "proxy=http://user:$PASSWORD@host\nurl=http://{{ user }}:{{ secrets.db.password }}@host\n"),
        ("etc/c", "password = {{ secrets.db.password }}\ntoken: ${TOKEN}\nPASSWORD=changeme123\n"),
        (
            "etc/pam.d/common-password",
            "password requisite pam_pwquality.so retry=3\npassword [success=1] pam_unix.so sha512\n",
        ),
        ("etc/d", "ssl_session_ticket_key /etc/nginx/tickets1;\npassword_file=/run/secrets/db2\n"),
        ("etc/sum", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  token\n"),
        ("etc/shadow", "root:*:1::::::\ndaemon:!:1::::::\nx:!*:1::::::\n"),
        ("var/lib/mysql/mysql/help_topic.MAD", "MASTER_PASSWORD='Xk39fLm2Qp7v',\n"),
    ] {
        put(folder.path(), path, text);
    }
    assert_eq!(scan(folder.path(), &gate()).expect("scanned").findings, []);
}

#[test]
fn a_file_may_be_there_as_it_was_allowed_and_not_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = Random(fastrand::Rng::with_seed(1)).key("RSA PRIVATE KEY");
    put(folder.path(), "usr/share/test.key", &key);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(key.as_bytes());
    let allowed = Allowed { path: "/usr/share/test.key".into(), sha256: recipes::op::hex(&digest) };
    let gate = Gate { allowed: vec![allowed], ..Gate::default() };
    let scanned = scan(folder.path(), &gate).expect("scanned");
    assert_eq!((scanned.findings.len(), scanned.allowed.len()), (0, 1));
    put(folder.path(), "usr/share/test.key", key + "\n");
    let scanned = scan(folder.path(), &gate).expect("scanned");
    assert_eq!(
        scanned.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a private key (the file is another than the one that is allowed) in /usr/share/test.key:1"]
    );
}

/// Wherever the border between two parts is.
#[test]
fn a_long_file_is_looked_through_to_its_end() {
    let key = Random(fastrand::Rng::with_seed(1)).key("RSA PRIVATE KEY");
    let text = format!("{}{key}{}", "a line\n".repeat(40), "another line\n".repeat(40));
    let look = super::scan::Look::new(&Gate::default());
    for part in 300..700 {
        let found = look.through(Path::new("x"), text.as_bytes(), part).expect("read");
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a private key in /x:41"], "{part}");
    }
}

#[test]
fn a_file_of_a_package_is_public_until_it_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let findings = || scan(root, &Gate::default()).expect("scanned").findings.len();
    let md5 = |text: &str| recipes::op::hex(&<md5::Md5 as md5::Digest>::digest(text.as_bytes()));
    let key = Random(fastrand::Rng::with_seed(1)).key("RSA PRIVATE KEY");
    put(root, "usr/share/doc/x/key", &key);
    put(root, "var/lib/dpkg/info/x.md5sums", format!("{}  usr/share/doc/x/key\n", md5(&key)));
    assert_eq!(findings(), 0);
    put(root, "etc/x/key", &key);
    assert_eq!(findings(), 1);
    put(root, "var/lib/dpkg/status", format!("Package: x\nConffiles:\n /etc/x/key {}\n", md5(&key)));
    assert_eq!(findings(), 0, "a file that may be configured, and was not");
    put(root, "usr/share/doc/x/key", format!("{key}changed"));
    assert_eq!(findings(), 1);
    put(root, "usr/lib/python3/__pycache__/keys.cpython-311.pyc", &key);
    assert_eq!(findings(), 2, "byte code of nobody knows what");
    put(root, "usr/lib/python3/keys.py", "source");
    put(root, "var/lib/dpkg/info/y.md5sums", format!("{}  usr/lib/python3/keys.py\n", md5("source")));
    assert_eq!(findings(), 1, "byte code of a package's file");
    put(root, "run/key", &key);
    assert_eq!(findings(), 1, "what is on tmpfs is not in the image");
}
