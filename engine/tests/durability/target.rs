//! A target that counts how often it is scraped, and says so.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Scrapes in order, each by the number of its connection; its place is the value that was shown.
#[derive(Default)]
struct Shown {
    connections: u64,
    scrapes: Vec<u64>,
}

#[derive(Clone)]
pub struct Target {
    pub port: u16,
    shown: Arc<Mutex<Shown>>,
}

impl Target {
    pub async fn start() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target { port: listener.local_addr().unwrap().port(), shown: Arc::default() };
        let shown = target.shown.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, shown.clone()));
            }
        });
        target
    }

    /// Values that were stored, but for those that came too late. A server asks again only after it has stored what it was
    /// shown before, and on the same connection only where it has read that.
    pub fn stored(&self) -> Vec<u64> {
        let shown = self.shown.lock();
        let pairs = shown.scrapes.windows(2).enumerate();
        pairs.filter(|(_, pair)| pair[0] == pair[1]).map(|(value, _)| value as u64).collect()
    }

    pub fn scrapes(&self) -> u64 {
        self.shown.lock().scrapes.len() as u64
    }
}

async fn serve(mut connection: TcpStream, shown: Arc<Mutex<Shown>>) {
    let number = {
        let shown = &mut *shown.lock();
        shown.connections += 1;
        shown.connections
    };
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            match connection.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(&buffer[..read]),
            }
        }
        request.clear();
        let value = {
            let shown = &mut *shown.lock();
            let value = shown.scrapes.len() as u64;
            shown.scrapes.push(number);
            value
        };
        let body = format!("# TYPE scrape_test gauge\nscrape_test {value}\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length";
        if connection.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await.is_err() {
            return;
        }
    }
}
