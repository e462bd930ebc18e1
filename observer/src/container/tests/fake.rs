//! A container runtime that does what a test says: gRPC by hand, so that nothing of the client is used to
//! check it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::container::messages::{
    Container, ContainerMetadata, ListContainersRequest, ListContainersResponse, ListPodSandboxRequest,
    ListPodSandboxResponse, PodSandbox, PodSandboxMetadata, VersionResponse,
};

/// What the runtime knows, and how it behaves.
#[derive(Clone, Default)]
pub(super) struct Behaviour {
    pub(super) containers: Vec<Container>,
    pub(super) pods: Vec<PodSandbox>,
    pub(super) manner: Manner,
}

/// How it behaves.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Manner {
    /// As the interface says.
    #[default]
    Good,
    /// Takes requests and never answers.
    Hangs,
    /// Sends everything it has, whatever is asked.
    SendsAll,
    /// Sends bytes that are no message.
    Garbage,
    /// Doesn't speak this interface.
    Unimplemented,
}

pub(super) struct Fake {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    /// Requests that came.
    pub(super) asked: Arc<AtomicUsize>,
}

impl Fake {
    pub(super) fn start(path: &Path, behaviour: Behaviour) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let (socket, count) = (path.to_owned(), asked.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = listen(listener, Arc::new(behaviour), count) => {}
                }
            });
            // Dropping the runtime ends the connections.
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread), path: path.to_owned(), asked }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

async fn listen(listener: UnixListener, behaviour: Arc<Behaviour>, asked: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (behaviour, asked) = (behaviour.clone(), asked.clone());
        let service = service_fn(move |request| {
            asked.fetch_add(1, Ordering::SeqCst);
            answer(request, behaviour.clone())
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(served);
    }
}

async fn answer(
    request: Request<Incoming>,
    behaviour: Arc<Behaviour>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, message) = match behaviour.manner {
        Manner::Hangs => std::future::pending().await,
        Manner::Garbage => ("0", vec![0xff; 100]),
        Manner::Unimplemented => ("12", Vec::new()),
        manner => ("0", listed(&behaviour, &path, &body[5..], manner == Manner::SendsAll)),
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

fn listed(behaviour: &Behaviour, path: &str, request: &[u8], all: bool) -> Vec<u8> {
    match path {
        "/runtime.v1.RuntimeService/ListContainers" => {
            let id = ListContainersRequest::decode(request).unwrap().filter.unwrap().id;
            let wanted = behaviour.containers.iter().filter(|container| all || container.id == id);
            ListContainersResponse { containers: wanted.cloned().collect() }.encode_to_vec()
        }
        "/runtime.v1.RuntimeService/ListPodSandbox" => {
            let id = ListPodSandboxRequest::decode(request).unwrap().filter.unwrap().id;
            let wanted = behaviour.pods.iter().filter(|pod| all || pod.id == id);
            ListPodSandboxResponse { items: wanted.cloned().collect() }.encode_to_vec()
        }
        "/runtime.v1.RuntimeService/Version" => {
            VersionResponse { runtime_name: "fake\u{1b}".to_owned(), runtime_version: "1.2".to_owned() }
                .encode_to_vec()
        }
        path => panic!("nobody should ask for {path}"),
    }
}

/// A container and its pod as a runtime lists them.
pub(super) fn pair(id: &str, names: [&str; 3], uid: &str) -> (Container, PodSandbox) {
    let [namespace, pod, container] = names.map(str::to_owned);
    let sandbox = format!("sandbox-of-{id}");
    let metadata = ContainerMetadata { name: container };
    let container =
        Container { id: id.to_owned(), pod_sandbox_id: sandbox.clone(), metadata: Some(metadata) };
    let metadata = PodSandboxMetadata { name: pod, uid: uid.to_owned(), namespace };
    (container, PodSandbox { id: sandbox, metadata: Some(metadata) })
}
