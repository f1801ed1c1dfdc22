//! Which web pages may talk to this server. Browsers say where a page is from; without this look any
//! page a person opens could use the server in that person's name.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// The pages that may.
#[derive(Debug)]
pub(super) struct Origins {
    listed: Vec<String>,
    any: bool,
}

impl Origins {
    pub(super) fn new(listed: &[String]) -> Self {
        let any = listed.iter().any(|origin| origin == "*");
        let listed = listed.iter().map(|origin| origin.to_ascii_lowercase()).collect();
        Self { listed, any }
    }

    /// Judges a request of `peer`.
    ///
    /// A client that is no browser names no origin and may. A page may whose origin is listed, or that is
    /// from this machine, or from the host that the request is for. The last needs care: for a request
    /// that comes from this machine the host must be an address or localhost. A foreign name that leads
    /// here is how pages reach servers that are not meant for them (DNS rebinding).
    pub(super) fn allows(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (origin, None) = (origins.next(), origins.next()) else { return false };
        let Some(origin) = origin else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if self.any || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((_, authority)) = origin.split_once("://") else { return false };
        if authority.is_empty() {
            return false;
        }
        if is_loopback(host_of(authority)) {
            return true;
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
            && (!peer.to_canonical().is_loopback() || host_of(authority).parse::<IpAddr>().is_ok())
    }
}

/// The host of `host:port`, without the brackets of IPv6.
fn host_of(authority: &str) -> &str {
    if let Some((host, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_loopback(host: &str) -> bool {
    let name = host.eq_ignore_ascii_case("localhost");
    name || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Goal: each rule, and each way around it.
    #[test]
    fn pages_are_judged_by_where_they_are_from() {
        let here = "127.0.0.1";
        let there = "192.0.2.7";
        let cases = [
            (true, there, None, "queue.example"),
            (true, there, Some("https://listed.example"), "queue.example"),
            (true, there, Some("https://Listed.Example"), "queue.example"),
            (false, there, Some("http://listed.example"), "queue.example"),
            (false, there, Some("https://listed.example.evil"), "queue.example"),
            (true, there, Some("https://queue.example"), "queue.example"),
            (true, there, Some("https://queue.example:7780"), "queue.example:7780"),
            (false, there, Some("https://queue.example:1"), "queue.example:7780"),
            (false, there, Some("https://evil.example"), "queue.example"),
            (false, there, Some("null"), "queue.example"),
            (false, there, Some("https://"), ""),
            (true, there, Some("http://localhost:3000"), "queue.example"),
            (true, there, Some("http://127.0.0.1"), "queue.example"),
            (true, there, Some("http://[::1]:80"), "queue.example"),
            (false, there, Some("http://localhost.evil"), "queue.example"),
            (false, there, Some("http://127.0.0.1.evil:80"), "queue.example"),
            // A name of theirs that leads here.
            (false, here, Some("http://evil.example:7780"), "evil.example:7780"),
            (true, here, Some("http://10.0.0.1:7780"), "10.0.0.1:7780"),
            (true, here, Some("http://localhost:7780"), "localhost:7780"),
        ];
        let origins = Origins::new(&["https://listed.example".to_owned()]);
        for (allowed, peer, origin, host) in cases {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers.insert(header::HOST, HeaderValue::from_static(host));
            let peer = peer.parse().unwrap();
            assert_eq!(origins.allows(&headers, peer), allowed, "{peer} {origin:?} {host}");
            assert!(Origins::new(&["*".to_owned()]).allows(&headers, peer));
        }
        let mut two = HeaderMap::new();
        two.append(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        two.append(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        assert!(!origins.allows(&two, here.parse().unwrap()));
    }
}
