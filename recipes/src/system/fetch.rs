//! The port to the network: the engine has none, so who carries it has to bring one.

use std::error::Error;
use std::io;

use crate::url::HttpsUrl;

/// Gets what is behind an address.
pub trait Fetch {
    /// Appends to `part` what it lacks of what is behind the address, and returns when it has all of it. It tries
    /// again where that may help. `output` gets lines about it.
    ///
    /// # Errors
    /// When it cannot be had. What `part` has of it by then can be gone on from.
    fn fetch(
        &self,
        request: &Request<'_>,
        part: &mut dyn Part,
        output: &mut dyn FnMut(&str),
    ) -> Result<Fetched, FetchError>;
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Where it is.
    pub url: &'a HttpsUrl,
    /// The certificates that the server is believed by, in PEM; none for those that the host trusts.
    pub ca: Option<&'a [u8]>,
    /// Whether somebody wants this run to end.
    pub is_interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// The beginning of a file that is being fetched.
pub trait Part: Send {
    /// How many bytes it has.
    fn length(&self) -> u64;

    /// How many it may have.
    fn limit(&self) -> u64;

    /// Puts bytes behind it.
    ///
    /// # Errors
    /// When the disk is full, or there are more than it may have.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Throws away what it has.
    ///
    /// # Errors
    /// When the file system refuses.
    fn restart(&mut self) -> io::Result<()>;
}

/// How something was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// In one answer.
    AtOnce,
    /// In several answers, which are of one file only if nobody changed it between them.
    InParts,
}

/// Why something could not be fetched, with its causes. It names no queries of addresses.
pub type FetchError = Box<dyn Error + Send + Sync>;
