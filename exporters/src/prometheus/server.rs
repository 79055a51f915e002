//! Serves one page at `/metrics` over HTTP, and comes back by itself when the port is in use.
//!
//! It does not know what is on the page: the exporter serves its series with it, the command the agent's own
//! metrics.

use std::{fmt, io, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use blameio_config::Endpoint;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{accept, text::TextFormat};

/// How long to wait before a port that is in use is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Pages that are made at the same time; each may be many megabytes.
const PAGES_AT_ONCE: usize = 2;

/// What is served.
#[derive(Clone)]
pub struct Page {
    render: Arc<dyn Fn(TextFormat) -> String + Send + Sync>,
    open_metrics: bool,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("open_metrics", &self.open_metrics).finish_non_exhaustive()
    }
}

impl Page {
    /// A page whose text `render` makes at each request. Without `open_metrics` every client gets the older
    /// text format.
    pub fn new(open_metrics: bool, render: impl Fn(TextFormat) -> String + Send + Sync + 'static) -> Self {
        Self { render: Arc::new(render), open_metrics, slots: Arc::new(Semaphore::new(PAGES_AT_ONCE)) }
    }
}

/// Serves `page` until `stop` is cancelled. `who` and `setting` tell the operator in an error whose address it
/// is and where to change it.
pub async fn serve(who: &str, setting: &str, endpoint: &Endpoint, page: Page, stop: CancellationToken) {
    let Some(listeners) = stop.run_until_cancelled(listen(who, setting, endpoint)).await else { return };
    let router = Router::new().route("/metrics", get(metrics)).fallback(elsewhere).with_state(page);
    // Dropping the set, as when the caller's deadline is over, closes the connections.
    let mut servers = JoinSet::new();
    for listener in listeners {
        let (router, stop) = (router.clone(), stop.clone());
        servers.spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        });
    }
    while let Some(ended) = servers.join_next().await {
        if !stop.is_cancelled() {
            tracing::error!(
                "{who}: stopped to serve http://{endpoint}/metrics: {ended:?}; restart the agent"
            );
        }
    }
}

/// Tries until it listens. The first failure is an error, those after it say nothing new.
async fn listen(who: &str, setting: &str, endpoint: &Endpoint) -> Vec<TcpListener> {
    let mut told = false;
    loop {
        match bind(endpoint).await {
            Ok(listeners) => {
                tracing::info!("{who}: serving http://{endpoint}/metrics");
                return listeners;
            }
            Err(error) if told => tracing::debug!("{who}: still cannot listen on {endpoint}: {error}"),
            Err(error) => {
                told = true;
                tracing::error!("{}", in_use(who, setting, endpoint, &error));
            }
        }
        sleep(RETRY).await;
    }
}

fn in_use(who: &str, setting: &str, endpoint: &Endpoint, error: &io::Error) -> String {
    format!(
        "{who}: cannot listen on {endpoint}: {error}; change `{setting}`, or find who listens there with \
         `ss -ltnp 'sport = :{}'`; trying again every {} s",
        endpoint.port,
        RETRY.as_secs()
    )
}

async fn bind(endpoint: &Endpoint) -> io::Result<Vec<TcpListener>> {
    let port = endpoint.port;
    match endpoint.host.as_str() {
        "localhost" => {
            let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            // With port 0 both must get the same one.
            match TcpListener::bind(("::1", first.local_addr()?.port())).await {
                Ok(second) => Ok(vec![first, second]),
                // Clients that try ::1 first would reach somebody else.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
                // A host without IPv6.
                Err(_) => Ok(vec![first]),
            }
        }
        "" => match TcpListener::bind(("::", port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                Ok(vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?])
            }
            result => Ok(vec![result?]),
        },
        host => Ok(vec![TcpListener::bind((host, port)).await?]),
    }
}

async fn metrics(State(page): State<Page>, headers: HeaderMap) -> Response {
    let accepts: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let format = if page.open_metrics { accept::format(&accepts.join(",")) } else { TextFormat::Prometheus };
    // The semaphore is never closed; without a slot the page is made all the same.
    let slot = Arc::clone(&page.slots).acquire_owned().await.ok();
    let text = spawn_blocking(move || {
        let text = (page.render)(format);
        drop(slot);
        text
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page could not be made: {error}\n"))
            .into_response(),
    }
}

async fn elsewhere() -> Response {
    (StatusCode::NOT_FOUND, "nothing here; the metrics are at /metrics\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_reported_with_whose_it_is_and_how_to_mend_it() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let text = in_use("exporter prometheus/own", "endpoint", &Endpoint::new("localhost", 9464), &error);
        for part in
            ["exporter prometheus/own", "localhost:9464", "change `endpoint`", "ss -ltnp 'sport = :9464'"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn localhost_is_reachable_over_ipv4_and_every_address_means_every_family() {
        for host in ["localhost", ""] {
            let listeners = bind(&Endpoint::new(host, 0)).await.unwrap();
            let port = listeners[0].local_addr().unwrap().port();
            assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().port() == port));
            assert!(tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok(), "{host}");
        }
    }
}
