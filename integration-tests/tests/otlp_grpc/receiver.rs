//! A receiver of OTLP on tonic: it answers as it is told and keeps what it took.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use blameio_config::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::{net::UnixListener, runtime::Runtime, time::sleep};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding::{Gzip, Zstd},
    metadata::MetadataMap,
    transport::{Server as Tonic, ServerTlsConfig, server::Router},
};

/// What is answered to a request; it is taken once nothing is left to answer.
pub enum Answer {
    Status(Status),
    /// Taken, but for so much of it.
    Partial(i64, &'static str),
    /// Taken after a while.
    Slow(Duration),
}

/// A request that was taken.
#[derive(Clone)]
pub struct Taken {
    pub signal: Signal,
    pub body: Vec<u8>,
    pub metadata: MetadataMap,
}

#[derive(Default)]
struct State {
    answers: Mutex<VecDeque<Answer>>,
    attempts: Mutex<Vec<Instant>>,
    taken: Mutex<Vec<Taken>>,
}

/// Survives the servers that it is run by.
#[derive(Clone, Default)]
pub struct Receiver(Arc<State>);

impl Receiver {
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let receiver = Self::default();
        receiver.0.answers.lock().unwrap().extend(answers);
        receiver
    }

    pub fn attempts(&self) -> Vec<Instant> {
        self.0.attempts.lock().unwrap().clone()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.0.taken.lock().unwrap().clone()
    }

    async fn take<T: Message>(&self, signal: Signal, request: Request<T>) -> Result<(i64, String), Status> {
        self.0.attempts.lock().unwrap().push(Instant::now());
        let answer = self.0.answers.lock().unwrap().pop_front();
        let (metadata, _, body) = request.into_parts();
        let rejected = match answer {
            Some(Answer::Status(status)) => return Err(status),
            Some(Answer::Partial(rejected, text)) => (rejected, text.to_owned()),
            Some(Answer::Slow(duration)) => {
                // Dropped here when the client gives up: then it was not taken.
                sleep(duration).await;
                (0, String::new())
            }
            None => (0, String::new()),
        };
        self.0.taken.lock().unwrap().push(Taken { signal, body: body.encode_to_vec(), metadata });
        Ok(rejected)
    }
}

#[async_trait::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (rejected_data_points, error_message) = self.take(Signal::Metrics, request).await?;
        let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[async_trait::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (rejected_spans, error_message) = self.take(Signal::Traces, request).await?;
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

#[async_trait::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (rejected_log_records, error_message) = self.take(Signal::Logs, request).await?;
        let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records, error_message });
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

/// How a server differs from the usual one.
pub struct Options {
    /// 0: any that is free.
    pub port: u16,
    pub tls: Option<ServerTlsConfig>,
    /// Largest message in bytes, before compression.
    pub limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, tls: None, limit: 4 << 20 }
    }
}

/// A server with a runtime of its own, so that it can be killed with all of its connections.
pub struct Server {
    pub port: u16,
    runtime: Option<Runtime>,
}

impl Server {
    pub fn start(receiver: &Receiver, options: Options) -> Self {
        let runtime = runtime();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        let deadline = Instant::now() + Duration::from_secs(10);
        // The one before on this port may still be ending.
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        listener.set_nonblocking(true).expect("not blocking");
        let port = listener.local_addr().expect("an address").port();
        let router = router(receiver, options);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serves");
        });
        Self { port, runtime: Some(runtime) }
    }

    pub fn on_socket(receiver: &Receiver, path: &Path) -> Self {
        let (runtime, path) = (runtime(), path.to_owned());
        let router = router(receiver, Options::default());
        runtime.spawn(async move {
            let listener = UnixListener::bind(path).expect("a socket");
            router.serve_with_incoming(UnixListenerStream::new(listener)).await.expect("serves");
        });
        Self { port: 0, runtime: Some(runtime) }
    }
}

impl Drop for Server {
    /// At once, in the midst of whatever it does.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn router(receiver: &Receiver, options: Options) -> Router {
    let mut tonic = Tonic::builder();
    if let Some(tls) = options.tls {
        tonic = tonic.tls_config(tls).expect("certificates");
    }
    macro_rules! service {
        ($server:ident) => {
            $server::new(receiver.clone())
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .send_compressed(Gzip)
                .max_decoding_message_size(options.limit)
        };
    }
    tonic
        .add_service(service!(MetricsServiceServer))
        .add_service(service!(TraceServiceServer))
        .add_service(service!(LogsServiceServer))
}
