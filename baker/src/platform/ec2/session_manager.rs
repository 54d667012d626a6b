//! The way to a builder that admits nobody: SSH through Session Manager.
//!
//! AWS's plugin carries the connection; what it is given is what the AWS CLI gives it. The token of a session is in its
//! environment and never in its arguments, which everybody on this machine can read.

use serde_json::json;

use super::Ec2;
use super::call::call;
use super::connect::{Way, load};
use crate::failure::Failure;

/// The program, as AWS calls it.
pub const SESSION_MANAGER_PLUGIN: &str = "session-manager-plugin";

/// The document that carries SSH (Systems Manager, "Allow and control permissions for SSH connections").
pub(super) const DOCUMENT: &str = "AWS-StartSSHSession";

/// The variable by which the plugin is told of a session.
const RESPONSE: &str = "AWS_SSM_START_SESSION_RESPONSE";

/// How the plugin is started.
#[derive(Debug)]
pub struct PluginCall {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, besides that of this process.
    pub variables: Vec<(String, String)>,
}

/// Opens a session with a port of an instance.
///
/// # Errors
/// When AWS does not: the instance may not be known to Systems Manager yet.
pub async fn open_session(region: &str, instance: &str, port: u16, way: &Way) -> Result<PluginCall, Failure> {
    let sdk = load(Some(region), way).await?;
    let request = aws_sdk_ssm::Client::new(&sdk)
        .start_session()
        .target(instance)
        .document_name(DOCUMENT)
        .parameters("portNumber", vec![port.to_string()]);
    let about = format!("`{instance}` in {region}");
    let session = call("ssm:StartSession", &about, request.send()).await?;
    let response = json!({
        "SessionId": session.session_id(), "TokenValue": session.token_value(), "StreamUrl": session.stream_url(),
    });
    let request = json!({ "Target": instance, "DocumentName": DOCUMENT, "Parameters": { "portNumber": [port.to_string()] } });
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = sdk.endpoint_url().map_or_else(|| format!("https://ssm.{region}.{suffix}"), str::to_owned);
    // The profile is empty: the plugin finds credentials in the environment that this process has, too.
    let arguments =
        [RESPONSE, region, "StartSession", "", &request.to_string(), &endpoint].map(str::to_owned);
    Ok(PluginCall { arguments: arguments.into(), variables: vec![(RESPONSE.into(), response.to_string())] })
}

impl Ec2 {
    /// The command by which ssh reaches an instance; none if this program does not know where it is.
    pub(super) fn through_session_manager(&self, instance: &str) -> Option<String> {
        let program = self.shared.program.as_ref()?.to_str()?;
        // A `%` begins a token (ssh_config(5), TOKENS).
        let program = shlex::try_quote(program).ok()?.replace('%', "%%");
        Some(format!("{program} session-manager --region {} {instance} %p", self.region))
    }
}
