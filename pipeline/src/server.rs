//! `WatchedServer`: what the kernel side and the processors need to know of a database server, as a
//! value that changes and can be subscribed to. How it is found out is the business of `databases`.

use std::{path::PathBuf, sync::Arc};

use blameio_config::ComponentId;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{attribute, metrics::key_value, role::ThreadRole};

/// Who a server is. Computed once per incarnation of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `service.instance.id`.
    pub instance_id: Uuid,
    /// `service.name`: the extension's name.
    pub service_name: String,
    /// `db.system.name`.
    pub system: &'static str,
    /// `server.address`.
    pub address: String,
    /// `server.port`.
    pub port: u16,
    /// `host.name`.
    pub host_name: String,
    /// `host.id`, where the host has one.
    pub host_id: Option<String>,
}

impl ServerIdentity {
    /// The OTLP resource of this server.
    pub fn resource(&self) -> Resource {
        let mut attributes = vec![
            key_value(attribute::SERVICE_NAME, self.service_name.as_str()),
            key_value(attribute::SERVICE_INSTANCE_ID, self.instance_id.to_string()),
            key_value(attribute::DB_SYSTEM_NAME, self.system),
            key_value(attribute::SERVER_ADDRESS, self.address.as_str()),
            key_value(attribute::SERVER_PORT, i64::from(self.port)),
            key_value(attribute::HOST_NAME, self.host_name.as_str()),
        ];
        if let Some(id) = &self.host_id {
            attributes.push(key_value(attribute::HOST_ID, id.as_str()));
        }
        Resource { attributes, ..Resource::default() }
    }
}

/// Whether the pages of a server's tablespaces say which index they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PageFormat {
    /// Its files have one owner each, or nothing is known of their pages.
    #[default]
    None,
    /// InnoDB as MySQL writes it.
    InnodbOfMysql,
    /// InnoDB as MariaDB writes it.
    InnodbOfMariadb,
}

/// A process of a watched server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedProcess {
    /// Process id in the agent's pid namespace.
    pub pid: u32,
    /// What it does.
    pub role: ThreadRole,
}

/// A thread of a watched process whose role is not that of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedThread {
    /// Thread id in the agent's pid namespace.
    pub tid: u32,
    /// What it does.
    pub role: ThreadRole,
}

/// One state of a watched server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerView {
    /// `None` until the server was seen for the first time.
    pub identity: Option<Arc<ServerIdentity>>,
    /// What its tablespaces' pages tell.
    pub pages: PageFormat,
    /// Its processes; empty while it is down or not on this host.
    pub processes: Vec<WatchedProcess>,
    /// Threads of these processes, of a server whose threads have roles of their own.
    pub threads: Vec<WatchedThread>,
    /// Threads that replication waits for.
    pub critical: Vec<u32>,
    /// Its data directory, as this host sees it; `None` while it is down or not on this host.
    pub data_directory: Option<PathBuf>,
    /// Grows by one whenever the server was restarted or its data directory was made anew.
    pub incarnation: u64,
}

/// A subscription to one server.
#[derive(Clone, Debug)]
pub struct WatchedServer {
    /// The extension that declares it.
    pub id: ComponentId,
    view: watch::Receiver<Arc<ServerView>>,
}

/// The side that tells what a server looks like now; held by the database extension.
#[derive(Debug)]
pub struct ServerPublisher {
    view: watch::Sender<Arc<ServerView>>,
}

impl WatchedServer {
    /// A server of which nothing is known yet, and the publisher of what will be.
    pub fn new(id: ComponentId) -> (ServerPublisher, Self) {
        let (sender, view) = watch::channel(Arc::new(ServerView::default()));
        (ServerPublisher { view: sender }, Self { id, view })
    }

    /// The newest view.
    pub fn view(&self) -> Arc<ServerView> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits for a view that this subscription has not seen; `false` when the publisher is gone.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }
}

impl ServerPublisher {
    /// Publishes a view; subscribers are woken only when it differs from the last one.
    pub fn publish(&self, view: ServerView) {
        self.view.send_if_modified(|current| {
            let differs = **current != view;
            if differs {
                *current = Arc::new(view);
            }
            differs
        });
    }
}
