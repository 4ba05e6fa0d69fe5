//! A backend of the demo: HTTP and UDP that answer with the backend's name, on threads inside its namespace.

use super::netns::Namespace;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

/// The port for HTTP and the one for UDP.
pub(super) const PORTS: [u16; 2] = [8080, 5353];

/// A running backend; it dies with its connections when dropped.
#[derive(Debug)]
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<io::Result<io::Result<()>>>>,
}

impl Server {
    /// Starts it, and returns when it listens on all addresses of both families.
    pub(super) fn start(namespace: &Namespace, name: &str) -> io::Result<Server> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let name: Arc<str> = name.into();
        let thread = namespace.spawn(&name.clone(), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let sockets = runtime.block_on(open());
            let sockets = match sockets {
                Ok(sockets) => sockets,
                Err(error) => {
                    let _ = ready.send(Err(io::Error::new(error.kind(), error.to_string())));
                    return Err(error);
                }
            };
            let _ = ready.send(Ok(()));
            runtime.block_on(async {
                tokio::select! {
                    result = serve_http(sockets.0, name.clone()) => result,
                    result = serve_udp(sockets.1, name) => result,
                    _ = stopped => Ok(()),
                }
            })
            // The runtime ends here, and every connection with it.
        })?;
        let server = Server { stop: Some(stop), thread: Some(thread) };
        is_ready.recv().map_err(|_| io::Error::other("the backend's thread ended at once"))??;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn open() -> io::Result<(TcpListener, UdpSocket)> {
    let any = |port| SocketAddr::from(([0_u16; 8], port));
    Ok((TcpListener::bind(any(PORTS[0])).await?, UdpSocket::bind(any(PORTS[1])).await?))
}

async fn serve_http(listener: TcpListener, name: Arc<str>) -> io::Result<()> {
    let answer = move || {
        let name = Arc::clone(&name);
        async move { name.to_string() }
    };
    axum::serve(listener, axum::Router::new().fallback(answer)).await
}

async fn serve_udp(socket: UdpSocket, name: Arc<str>) -> io::Result<()> {
    let mut datagram = [0; 2048];
    loop {
        // Errors are ICMP messages about earlier answers to clients that are gone.
        if let Ok((_, client)) = socket.recv_from(&mut datagram).await {
            let _ = socket.send_to(name.as_bytes(), client).await;
        }
    }
}
