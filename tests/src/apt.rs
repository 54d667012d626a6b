//! A repository of Debian packages, signed with a key that is thrown away.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Name and version of a package, which has nothing in it.
pub type Package<'a> = (&'a str, &'a str);

/// A package with scripts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripted<'a> {
    /// Its name.
    pub name: &'a str,
    /// More fields of its control file, each a line.
    pub fields: &'a str,
    /// What dpkg runs, such as `postinst`, and what that is.
    pub scripts: &'a [(&'a str, &'a str)],
}

/// Makes a flat repository (sources.list(5)) of these packages in a folder: the packages as
/// `NAME_VERSION_all.deb`, `Packages`, `InRelease`, and the key that signed it as `key.asc`.
/// Returns the names of the files.
///
/// # Errors
/// When a tool is missing or fails.
pub fn repository(folder: &Path, packages: &[Package<'_>]) -> io::Result<Vec<String>> {
    let plain = |&(name, version)| (version, Scripted { name, ..Scripted::default() });
    made(folder, &packages.iter().map(plain).collect::<Vec<_>>())
}

/// The same of packages with scripts, of version 1.0.
///
/// # Errors
/// When a tool is missing or fails.
pub fn repository_with_scripts(folder: &Path, packages: &[Scripted<'_>]) -> io::Result<Vec<String>> {
    made(folder, &packages.iter().map(|package| ("1.0", *package)).collect::<Vec<_>>())
}

fn made(folder: &Path, packages: &[(&str, Scripted<'_>)]) -> io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let mut names = vec!["InRelease".to_owned(), "Packages".to_owned()];
    let mut index = String::new();
    for (version, Scripted { name, fields, scripts }) in packages {
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\n\
             {fields}Description: for a test\n"
        );
        let tree = TempDir::with_prefix("package-")?;
        let folder_of_control = tree.path().join("DEBIAN");
        fs::create_dir(&folder_of_control)?;
        fs::write(folder_of_control.join("control"), &control)?;
        for (script, text) in *scripts {
            let path = folder_of_control.join(script);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let file = format!("{name}_{version}_all.deb");
        let path = folder.join(&file);
        run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(tree.path()).arg(&path))?;
        let (size, sum) = (fs::metadata(&path)?.len(), sha256(&path)?);
        index += &format!("{control}Filename: ./{file}\nSize: {size}\nSHA256: {sum}\n\n");
        names.push(file);
    }
    let path = folder.join("Packages");
    fs::write(&path, &index)?;
    let release = format!(
        "Origin: testbed\nDate: {}\nSHA256:\n {} {} Packages\n",
        run(Command::new("date").args(["--utc", "--rfc-email"]))?.trim(),
        sha256(&path)?,
        index.len()
    );
    sign(folder, &release)?;
    Ok(names)
}

fn sign(folder: &Path, release: &str) -> io::Result<()> {
    let home = TempDir::with_prefix("gnupg-")?;
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", home.path()).args(["--batch", "--quiet", "--yes", "--passphrase", ""]);
        run(command.args(["--pinentry-mode", "loopback"]).args(arguments))
    };
    gpg(&["--quick-generate-key", "testbed", "ed25519", "sign", "never"])?;
    let unsigned = home.path().join("Release");
    fs::write(&unsigned, release)?;
    let signed = gpg(&["--clear-sign", "--output", "-", &unsigned.display().to_string()])?;
    fs::write(folder.join("InRelease"), signed)?;
    fs::write(folder.join("key.asc"), gpg(&["--armor", "--export", "testbed"])?)?;
    // The agent that gpg started stays otherwise.
    run(Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"])).map(drop)
}

fn sha256(path: &Path) -> io::Result<String> {
    let text = run(Command::new("sha256sum").arg(path))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Runs a program that must succeed, and returns what it printed.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} failed: {}", error.trim())))
}
