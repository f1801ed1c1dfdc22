//! Where the server listens.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};

use crate::cli::failure::Failure;

/// Connections that the operating system may hold for us until they are accepted.
const BACKLOG: u32 = 1024;

/// A place to listen, as it was asked for.
#[derive(Debug)]
pub(super) struct Place {
    /// The flag it may be changed with.
    flag: &'static str,
    addresses: Vec<SocketAddr>,
}

/// A port that is ours, where nobody is let in yet.
#[derive(Debug)]
pub(super) struct Bound {
    flag: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

/// Every listener of the server.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) binary: TcpListener,
    pub(super) http: Option<TcpListener>,
    pub(super) stomp: Option<TcpListener>,
}

/// Their addresses.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Listening {
    pub(super) binary: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stomp: Option<SocketAddr>,
}

impl Place {
    /// Without authentication only this machine may come in, unless `insecure`.
    pub(super) fn find(flag: &'static str, listen: &str, insecure: bool) -> Result<Self, Failure> {
        let addresses: Vec<_> = listen
            .to_socket_addrs()
            .map_err(|error| Failure::Failed(format!("cannot find the address {listen}: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(Failure::Failed(format!("the name in {listen} has no address")));
        }
        let place = Self { flag, addresses };
        if place.addresses.iter().all(|address| address.ip().is_loopback()) {
            return Ok(place);
        }
        if insecure {
            tracing::warn!(
                listen,
                "everybody who reaches this address may read, publish and delete"
            );
            return Ok(place);
        }
        Err(Failure::Usage(format!(
            "{listen} can be reached by others, and there is no authentication yet; listen on \
             127.0.0.1, or add --insecure when the network is trusted"
        )))
    }

    /// Takes the port without letting anybody in.
    pub(super) fn bind(self) -> Result<Bound, Failure> {
        let flag = self.flag;
        let mut failure = Failure::Failed("there is no address to listen on".into());
        for address in self.addresses {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let bound = socket.and_then(|socket| {
                // A port whose last connections linger is free for a restart.
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                Ok(socket)
            });
            match bound {
                Ok(socket) => return Ok(Bound { flag, address, socket }),
                Err(error) => failure = cannot_listen(flag, address, &error),
            }
        }
        Err(failure)
    }
}

impl Bound {
    /// Lets connections in.
    pub(super) fn listen(self) -> Result<TcpListener, Failure> {
        let Self { flag, address, socket } = self;
        socket.listen(BACKLOG).map_err(|error| cannot_listen(flag, address, &error))
    }
}

impl Listeners {
    pub(super) fn addresses(&self) -> std::io::Result<Listening> {
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose()
        };
        let (http, stomp) = (address(&self.http)?, address(&self.stomp)?);
        Ok(Listening { binary: self.binary.local_addr()?, http, stomp })
    }
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("; another server runs there: stop it, or choose another port with {flag}")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("; choose a port above 1023 with {flag}")
        }
        _ => String::new(),
    };
    Failure::Failed(format!("cannot listen on {address}: {error}{advice}"))
}
