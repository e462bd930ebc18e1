//! Which container runtimes answer, for `observer check`.

use std::path::PathBuf;

use super::client::{Client, ClientError};
use super::{NameOptions, sockets};

/// A socket, and who answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSocket {
    /// Where it is.
    pub path: PathBuf,
    /// Name and version of the runtime, or why nobody answers: one sentence.
    pub answer: Result<String, String>,
}

/// Asks the given socket, or all in the usual places, each for two seconds at most; none is asked where names aren't
/// wanted.
///
/// # Errors
/// When no connection can be made at all.
pub fn runtimes(options: &NameOptions) -> std::io::Result<Vec<RuntimeSocket>> {
    let paths = match &options.socket {
        _ if !options.ask => Vec::new(),
        Some(path) => vec![path.clone()],
        None => sockets::usual(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |path: PathBuf| {
        let answer = runtime.block_on(Client::new(path.clone()).version()).map_err(|error| told(&error));
        RuntimeSocket { path, answer }
    };
    Ok(paths.into_iter().map(ask).collect())
}

fn told(error: &ClientError) -> String {
    match error {
        ClientError::Refused(status) if status.code() == tonic::Code::Unimplemented => {
            "it is no CRI socket: enable the runtime's CRI plugin, or name another one with --cri-socket"
                .to_owned()
        }
        error => format!("{error}; is the runtime running, and may observer open its socket?"),
    }
}
