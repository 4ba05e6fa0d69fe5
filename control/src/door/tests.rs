use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guests::Room;
use super::*;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

struct Bed {
    address: std::net::SocketAddr,
    served: tokio::task::JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn open(room: Room) -> Bed {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let large = || async { "x".repeat(64 << 20) };
    let later = || async {
        // Long enough for whatever its client does meanwhile to be seen.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        "well"
    };
    let router = Router::new()
        .route("/", get(|| async { "well" }))
        .route("/large", get(large))
        .route("/later", get(later))
        .route("/never", get(std::future::pending::<()>));
    let served = tokio::spawn(serve("a door", listener, router, Guests::new(room)));
    Bed { address, served }
}

impl Bed {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection that has sent this.
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

/// Until the other side closes; what it sent.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    // A reset is an end as well.
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        text.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(text).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn crowds_of_silent_slow_and_wrong_clients_keep_nobody_out() {
    let bed = open(Room { at_one_door: 8, in_all: 8, silent: LONG, asked: LONG }).await;
    let mut crowd = Vec::new();
    for round in 0..300 {
        let text = ["", "GET / HT", "\0\u{1}\u{2}\n\n", "GET /never HTTP/1.1\r\nHost: x\r\n\r\n"][round % 4];
        let mut stream = bed.connect().await;
        // It may be asked to leave already.
        let _ = stream.write_all(text.as_bytes()).await;
        crowd.push(stream);
        if round % 50 == 49 {
            let mut client = bed.send(GET).await;
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
    }
    let ended = AtomicUsize::new(0);
    let wait = crowd.into_iter().map(|stream| async {
        rest(stream).await;
        ended.fetch_add(1, Ordering::Relaxed);
    });
    let waiting = futures::future::join_all(wait);
    tokio::select! {
        _ = waiting => {}
        () = async { while ended.load(Ordering::Relaxed) < 300 - 8 { tokio::task::yield_now().await } } => {}
    }
}

#[tokio::test]
async fn who_stands_still_has_to_leave() {
    let bed = open(Room { at_one_door: 100, in_all: 100, silent: SHORT, asked: SHORT }).await;
    assert_eq!(rest(bed.connect().await).await, "", "silent from the start");
    assert_eq!(rest(bed.send("GET / HTTP/1.1\r\nHo").await).await, "", "within a head");
    assert_eq!(rest(bed.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await).await, "", "no answer in time");
    let twice = rest(bed.send(&GET.repeat(2)).await).await;
    assert_eq!(twice.matches("HTTP/1.1 200").count(), 2, "after two answers on one connection");
    for close in ["", "Connection: close\r\n"] {
        let request = format!("GET /large HTTP/1.1\r\nHost: x\r\n{close}\r\n");
        let mut stream = bed.send(&request).await;
        stream.read_exact(&mut [0; 12]).await.unwrap();
        // Of a closed connection more cannot be sent.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn requests_are_bounded_in_size() {
    let bed = open(Room { at_one_door: 100, in_all: 100, silent: LONG, asked: LONG }).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: x\r\n".repeat(HEADERS + 1));
    for (what, request) in [("too long", long), ("too many", many)] {
        let answer = rest(bed.send(&request).await).await;
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{what}: {answer}");
    }
}

/// As `printf … | socat - TCP:…` and `nc -N` do.
#[tokio::test]
async fn who_closes_its_half_after_asking_is_answered() {
    let bed = open(Room { at_one_door: 100, in_all: 100, silent: LONG, asked: LONG }).await;
    for request in ["GET /later HTTP/1.0\r\n\r\n", "GET /later HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = bed.send(request).await;
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("well"), "{answer:?}");
    }
    // Who asks for nothing more is not waited for.
    let mut stream = bed.connect().await;
    stream.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, "");
}
