//! What a builder boots with: an SSH server of the bake's own, and an end.
//!
//! The server, its keys and its configuration are in `/run`, so nothing of it can be in an image, and recipes may
//! do to the image's own server what they like. The time limit ends the instance when baker did
//! not. A firewall that the image brings has been loaded by then, and gets an exception for the server, which is gone
//! with the boot.

use std::time::Duration;

use serde_json::json;

/// What keeps the agent of an image from its boot: on a builder there is nothing to configure.
const NO_BOOT: &str = ": >/run/baker-builder";

/// cloud-config for cloud-init, which runs `bootcmd` before most units start (cloud-init, "Boot stages"). `boots` is
/// whether the agent does there what it does on every host.
pub(super) fn cloud_config(
    host_key: &str,
    authorized: &str,
    port: u16,
    time_limit: Duration,
    boots: bool,
) -> String {
    let script = format!(
        r#"set -eu; umask 077
{no_boot}
systemd-run --quiet --no-block --unit=baker-time-limit sh -c 'sleep {seconds}; systemctl poweroff'
mkdir -p /run/baker/ssh
cat >/run/baker/ssh/host_key <<'END'
{host_key}
END
cat >/run/baker/ssh/authorized_keys <<'END'
{authorized}
END
cat >/run/baker/ssh/sshd_config <<'END'
Port {port}
HostKey /run/baker/ssh/host_key
AuthorizedKeysFile /run/baker/ssh/authorized_keys
PidFile none
AllowUsers root
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthenticationMethods publickey
UsePAM yes
PrintMotd no
PrintLastLog no
AllowTcpForwarding no
X11Forwarding no
END
if command -v nft >/dev/null; then nft list chains | awk -v p={port} '
  $1 == "table" {{ table = $2 " " $3 }} $1 == "chain" {{ chain = $2 }} table !~ /^(inet|ip|ip6) / {{ next }}
  / hook input / {{ print "insert rule", table, chain, "tcp dport", p, "accept" }}
  / hook output / {{ print "insert rule", table, chain, "tcp sport", p, "accept" }}' | nft -f -; fi
systemd-run --quiet --no-block --unit=baker-sshd --property=RuntimeDirectory=sshd --property=RuntimeDirectoryPreserve=yes --property=Restart=on-failure $(command -v sshd || echo /usr/sbin/sshd) -D -e -f /run/baker/ssh/sshd_config
"#,
        no_boot = if boots { ":" } else { NO_BOOT },
        seconds = time_limit.as_secs(),
        host_key = host_key.trim(),
        authorized = authorized.trim(),
    );
    let config = json!({ "bootcmd": [["sh", "-c", script]] });
    // JSON is YAML.
    format!("#cloud-config\n{config}\n")
}

/// The same together with user-data of the image's own, as one MIME message (cloud-init, "MIME multi-part archive").
pub(super) fn with_other(cloud_config: &str, other: &str) -> String {
    const BOUNDARY: &str = "baker-user-data-boundary";
    let part = |kind: &str, text: &str| {
        format!("--{BOUNDARY}\nContent-Type: text/{kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\n{text}\n")
    };
    format!(
        "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n{}{}--{BOUNDARY}--\n",
        part("cloud-config", cloud_config),
        part("x-shellscript", other),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_boot_command_with_the_keys_in_it() {
        let text = cloud_config("KEY\nLINES\n", "ssh-ed25519 AAAA\n", 22022, Duration::from_hours(2), false);
        let json = text.strip_prefix("#cloud-config\n").expect("the line that cloud-init looks for");
        let config: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let script = config["bootcmd"][0][2].as_str().expect("a script");
        assert!(script.contains("sleep 7200; ") && script.contains("\nKEY\nLINES\nEND\n"), "{script}");
        assert!(
            script.contains("\nPort 22022\n") && script.contains("\nssh-ed25519 AAAA\nEND\n"),
            "{script}"
        );
        assert!(script.contains("\n: >/run/baker-builder\n"), "{script}");
        // Instances take 16 KB of it (EC2, "User data").
        assert!(text.len() < 4096);
    }

    #[test]
    fn user_data_of_the_image_is_a_second_part() {
        let text = with_other("#cloud-config\n{}\n", "#!/usr/local/bin/bootstrap-agent run\nrole: web\n");
        assert_eq!(text.matches("\n--baker-user-data-boundary\n").count(), 2);
        assert!(text.ends_with("role: web\n\n--baker-user-data-boundary--\n"));
    }
}
