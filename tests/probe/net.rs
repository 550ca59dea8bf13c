//! Servers and clients, for pods in networks: each says who it is, and who asked.

use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::{fail, getpid, kill, say, told};

/// What is expected comes sooner.
const LONG: Duration = Duration::from_secs(20);
/// What is dropped has not come by then.
const SHORT: Duration = Duration::from_millis(300);

/// Answers on a port, over TCP and UDP, with a name and the address it was asked
/// from. Over TCP it says each line again that it hears; `crash` ends it.
pub fn serve(name: &str, port: &str) {
    let at = format!("[::]:{port}");
    let (tcp, udp) = match TcpListener::bind(&at).and_then(|tcp| Ok((tcp, UdpSocket::bind(&at)?))) {
        Ok(sockets) => sockets,
        Err(error) => return told(format!("serve {port}"), Err(error)),
    };
    say("serving");
    let answer = |peer: SocketAddr| format!("{name} {}\n", peer.ip().to_canonical());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((_, peer)) = udp.recv_from(&mut [0; 64]) {
                udp.send_to(answer(peer).as_bytes(), peer).ok();
            }
        });
        while let Ok((stream, peer)) = tcp.accept() {
            scope.spawn(move || talk(stream, &answer(peer)));
        }
    });
}

/// Answers each request with the status code that stands in a file, and with its path;
/// never while that says `silence`.
pub fn http(port: &str, code: &str) {
    let listener = match TcpListener::bind(format!("127.0.0.1:{port}")) {
        Ok(listener) => listener,
        Err(error) => return told(format!("http {port}"), Err(error)),
    };
    say("serving");
    let mut silent = Vec::new();
    while let Ok((mut stream, _)) = listener.accept() {
        let Ok(copy) = stream.try_clone() else { continue };
        let lines: Vec<_> =
            BufReader::new(copy).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let code = std::fs::read_to_string(code).unwrap_or_default();
        match code.trim() {
            "silence" => silent.push(stream),
            code => {
                let asked = lines.first().map_or("nothing", String::as_str);
                let answer = format!("HTTP/1.1 {code} So\r\nLocation: /elsewhere\r\n\r\n{asked}");
                // By one system call.
                stream.write_all(answer.as_bytes()).ok();
            }
        }
    }
}

fn talk(mut stream: TcpStream, greeting: &str) {
    let Ok(copy) = stream.try_clone() else { return };
    stream.write_all(greeting.as_bytes()).ok();
    for line in BufReader::new(copy).lines().map_while(Result::ok) {
        if line == "crash" {
            kill(getpid(), 9);
        }
        writeln!(stream, "{line}").ok();
    }
}

fn address(server: &str) -> SocketAddr {
    server.parse().unwrap_or_else(|_| fail(format!("no address: {server}")))
}

fn by_tcp(server: SocketAddr) -> Result<String, Error> {
    let stream = TcpStream::connect_timeout(&server, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().into())
}

fn by_udp(server: SocketAddr, limit: Duration) -> Result<String, Error> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let size = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..size]).trim_end().into())
}

/// What a server says, over TCP and then over UDP.
pub fn ask(server: &str) {
    let server = address(server);
    for answer in [by_tcp(server), by_udp(server, LONG)] {
        say(answer.unwrap_or_else(|error| format!("errno {}", error.raw_os_error().unwrap_or(-1))));
    }
}

/// Asks until somebody answers.
pub fn reach(server: &str) {
    let end = Instant::now() + LONG;
    loop {
        match by_tcp(address(server)) {
            Ok(answer) => return say(answer),
            Err(error) if Instant::now() > end => return told(format!("reach {server}"), Err(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Has a server crash that serves.
pub fn crash(server: &str) {
    let crash = TcpStream::connect_timeout(&address(server), LONG).and_then(|mut stream| {
        stream.write_all(b"crash\n")?;
        // Until the other end is gone.
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    });
    match crash {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => told("crash", Err(error)),
        _ => say("crashed"),
    }
}

/// Says whether nothing comes back from there.
pub fn silence(server: &str) {
    let server = address(server);
    let tcp = TcpStream::connect_timeout(&server, SHORT).map(|_| "connected".to_string());
    for answer in [tcp, by_udp(server, SHORT)] {
        say(match answer {
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => "silence".into(),
            Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(-1)),
            Ok(answer) => answer,
        });
    }
}
