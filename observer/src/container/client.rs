//! Asks one container runtime, over its socket. It is asked for lists, and for its own name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::ContainerName;
use super::group::Container;
use super::messages::{
    IdFilter, ListContainersRequest, ListContainersResponse, ListPodSandboxRequest, ListPodSandboxResponse,
    PodSandbox, VersionRequest, VersionResponse,
};
use crate::text::printable_bytes;

/// Time for one answer, with connecting.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
/// Longest name that is kept, in bytes. Kubernetes allows 253.
const MAX_NAME: usize = 256;
const VERSION: &str = "/runtime.v1.RuntimeService/Version";
const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const LIST_PODS: &str = "/runtime.v1.RuntimeService/ListPodSandbox";

/// Why a socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nothing listens there, or not any more.
    #[error("nobody answers: {}", innermost(.0))]
    Connect(#[source] tonic::transport::Error),
    /// It listens, and said no.
    #[error("it refuses: {}", printable_bytes(.0.message().as_bytes(), MAX_NAME))]
    Refused(Status),
    /// It took too long.
    #[error("it did not answer within {DEADLINE:?}")]
    Deadline,
    /// It answered what it was not asked.
    #[error("it answers {0}")]
    Nonsense(&'static str),
}

/// What it comes down to: the outer errors only say that it is about a connection.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// One socket, connected when it is needed.
pub(super) struct Client {
    path: PathBuf,
    channel: Option<Channel>,
}

impl Client {
    /// Does not connect yet.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, channel: None }
    }

    /// Where it asks.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the runtime calls a container; `None` if it doesn't know it.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is made anew next time.
    pub(super) async fn name(&mut self, asked: &Container) -> Result<Option<ContainerName>, ClientError> {
        let answer = timeout(DEADLINE, self.ask(asked)).await.unwrap_or(Err(ClientError::Deadline));
        match answer {
            // Not a server of this interface: Docker's containerd, say.
            Err(ClientError::Refused(status)) if status.code() == Code::Unimplemented => Ok(None),
            Err(error) => {
                self.channel = None;
                Err(error)
            }
            answer => answer,
        }
    }

    /// Name and version of the runtime, fit to show.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn version(&mut self) -> Result<String, ClientError> {
        let asked = async {
            let mut grpc = self.grpc().await?;
            let answer: VersionResponse = unary(&mut grpc, VERSION, VersionRequest {}).await?;
            Ok(format!("{} {}", answer.runtime_name, answer.runtime_version))
        };
        let answer = timeout(DEADLINE, asked).await.unwrap_or(Err(ClientError::Deadline))?;
        match printable_bytes(answer.trim().as_bytes(), MAX_NAME) {
            nameless if nameless.is_empty() => Err(ClientError::Nonsense("without a name")),
            name => Ok(name),
        }
    }

    async fn grpc(&mut self) -> Result<Grpc<Channel>, ClientError> {
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => self.channel.insert(connect(self.path.clone()).await?).clone(),
        };
        Ok(Grpc::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    async fn ask(&mut self, asked: &Container) -> Result<Option<ContainerName>, ClientError> {
        let mut grpc = self.grpc().await?;
        let id = || Some(IdFilter { id: asked.id.to_string() });
        let answer: ListContainersResponse =
            unary(&mut grpc, LIST_CONTAINERS, ListContainersRequest { filter: id() }).await?;
        let found = answer.containers.into_iter().find(|container| container.id == *asked.id);
        let pod = match &found {
            Some(container) => Some(IdFilter { id: container.pod_sandbox_id.clone() }),
            // A pod's own group has the id of its sandbox.
            None => id(),
        };
        let wanted = pod.as_ref().map(|filter| filter.id.clone()).unwrap_or_default();
        let answer: ListPodSandboxResponse =
            unary(&mut grpc, LIST_PODS, ListPodSandboxRequest { filter: pod }).await?;
        let pod = answer.items.into_iter().find(|pod| pod.id == wanted);
        let container = found.map(|container| container.metadata.unwrap_or_default().name);
        match (pod, container) {
            (Some(pod), container) => named(asked, pod, container.as_deref()).map(Some),
            (None, Some(_)) => Err(ClientError::Nonsense("a container without a pod")),
            (None, None) => Ok(None),
        }
    }
}

/// Checks an answer against what the cgroup's path says, and makes it fit to show.
fn named(asked: &Container, pod: PodSandbox, container: Option<&str>) -> Result<ContainerName, ClientError> {
    let pod = pod.metadata.unwrap_or_default();
    if asked.pod_uid.as_ref().is_some_and(|uid| !pod.uid.is_empty() && **uid != *pod.uid.replace('_', "-")) {
        return Err(ClientError::Nonsense("with another pod than the container's cgroup is in"));
    }
    if pod.name.is_empty() || container == Some("") {
        return Err(ClientError::Nonsense("without a name"));
    }
    let shown = |name: &str| printable_bytes(name.as_bytes(), MAX_NAME).into();
    Ok(ContainerName {
        namespace: shown(&pod.namespace),
        pod: shown(&pod.name),
        container: container.map(shown),
    })
}

async fn connect(path: PathBuf) -> Result<Channel, ClientError> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is for the request's header only.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(ClientError::Connect)
}

async fn unary<Q, A>(grpc: &mut Grpc<Channel>, method: &'static str, request: Q) -> Result<A, ClientError>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    grpc.ready().await.map_err(ClientError::Connect)?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(method), codec).await;
    Ok(answer.map_err(ClientError::Refused)?.into_inner())
}
