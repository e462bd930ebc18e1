//! The part of the Kubernetes container runtime interface (`runtime.v1`) that a kubelet uses to start a pod.

use anyhow::{Context, Result};
use prost::Message;
use std::collections::HashMap;
use std::path::Path;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// `NamespaceMode`: of the pod, and of the node.
const NODE: i32 = 2;

/// `NamespaceOption`.
#[derive(Clone, PartialEq, Message)]
pub struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

impl Namespaces {
    /// The node's network, because there is no network plug-in, and a PID namespace for each container or the node's.
    #[must_use]
    pub fn new(host_pid: bool) -> Self {
        Self { network: NODE, pid: if host_pid { NODE } else { 1 }, ipc: 0 }
    }
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct PodName {
    /// Name of the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// UID of the pod.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace of the pod.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    pub(crate) namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxSandbox {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) security: Option<SandboxSecurity>,
}

/// `PodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sandbox {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<PodName>,
    #[prost(string, tag = "3")]
    pub(crate) log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    pub(crate) labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// `Mount`: a part of the node's file system.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Where it is in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Where it is on the node.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether it can't be written.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

/// `LinuxContainerResources`; 0 is unlimited.
#[derive(Clone, PartialEq, Message)]
pub struct Resources {
    /// Length of a period, in microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// CPU time in a period, in microseconds.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// Memory limit, in bytes.
    #[prost(int64, tag = "4")]
    pub memory_limit: i64,
}

/// `Capability`, without the prefix `CAP_`.
#[derive(Clone, PartialEq, Message)]
pub struct Capabilities {
    /// Given.
    #[prost(string, repeated, tag = "1")]
    pub add: Vec<String>,
    /// Taken away.
    #[prost(string, repeated, tag = "2")]
    pub drop: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SecurityProfile {
    /// 0 is the runtime's default.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerSecurity {
    #[prost(message, optional, tag = "1")]
    pub(crate) capabilities: Option<Capabilities>,
    #[prost(message, optional, tag = "3")]
    pub(crate) namespaces: Option<Namespaces>,
    #[prost(bool, tag = "7")]
    pub(crate) readonly_root: bool,
    #[prost(bool, tag = "11")]
    pub(crate) no_new_privileges: bool,
    #[prost(message, optional, tag = "15")]
    pub(crate) seccomp: Option<SecurityProfile>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxContainer {
    #[prost(message, optional, tag = "1")]
    pub(crate) resources: Option<Resources>,
    #[prost(message, optional, tag = "2")]
    pub(crate) security: Option<ContainerSecurity>,
}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<ContainerName>,
    #[prost(message, optional, tag = "2")]
    pub(crate) image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) args: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) envs: Vec<KeyValue>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    pub(crate) labels: HashMap<String, String>,
    #[prost(string, tag = "11")]
    pub(crate) log_path: String,
    #[prost(message, optional, tag = "15")]
    pub(crate) linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox: Option<Sandbox>,
}

/// Requests and answers that are only an id, and empty answers.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatus {
    #[prost(message, optional, tag = "1")]
    image: Option<Id>,
}

/// A connection to a container runtime.
pub struct Cri {
    runtime: Runtime,
    client: Grpc<Channel>,
}

impl Cri {
    /// Connects to a socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?;
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, client: Grpc::new(channel) })
    }

    fn call<Q, A>(&mut self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let client = &mut self.client;
        let answer = self.runtime.block_on(async {
            client.ready().await?;
            let path = PathAndQuery::from_static(method);
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await?;
            anyhow::Ok(answer.into_inner())
        });
        answer.with_context(|| format!("the container runtime refused {method}"))
    }

    /// Whether an image is there.
    ///
    /// # Errors
    /// When the runtime doesn't answer.
    pub fn has_image(&mut self, name: &str) -> Result<bool> {
        let image = Some(ImageSpec { image: name.to_owned() });
        let status: ImageStatus =
            self.call("/runtime.v1.ImageService/ImageStatus", ImageStatusRequest { image })?;
        Ok(status.image.is_some())
    }

    pub(crate) fn run_pod(&mut self, config: &Sandbox) -> Result<String> {
        let request = RunPodSandbox { config: Some(config.clone()) };
        let pod: Id = self.call("/runtime.v1.RuntimeService/RunPodSandbox", request)?;
        Ok(pod.id)
    }

    pub(crate) fn start(&mut self, pod: &str, sandbox: &Sandbox, config: ContainerConfig) -> Result<String> {
        let (config, sandbox) = (Some(config), Some(sandbox.clone()));
        let request = CreateContainer { pod: pod.to_owned(), config, sandbox };
        let container: Id = self.call("/runtime.v1.RuntimeService/CreateContainer", request)?;
        let _: Id = self.call("/runtime.v1.RuntimeService/StartContainer", container.clone())?;
        Ok(container.id)
    }

    /// Ends all containers of a pod and removes it.
    ///
    /// # Errors
    /// When the runtime can't.
    pub fn remove_pod(&mut self, pod: &str) -> Result<()> {
        let pod = Id { id: pod.to_owned() };
        let _: Id = self.call("/runtime.v1.RuntimeService/StopPodSandbox", pod.clone())?;
        let _: Id = self.call("/runtime.v1.RuntimeService/RemovePodSandbox", pod)?;
        Ok(())
    }
}
