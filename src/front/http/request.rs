//! What a request says of who asks.

use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{StatusCode, Uri};

use super::connection::Link;
use super::problem::Problem;
use crate::base::limits::TOKEN_BYTES_MAX;
use crate::front::carrier::Greeting;

/// What is known before the first STOMP frame.
pub(super) fn greeting(headers: &HeaderMap, uri: &Uri, link: &Link) -> Result<Greeting, Problem> {
    let (token, basic) = match headers.get(header::AUTHORIZATION) {
        Some(value) => credentials(value.to_str().unwrap_or_default())?,
        None => (query_token(uri.query().unwrap_or_default()), false),
    };
    if token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX) {
        let text = format!("a token has at most {TOKEN_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    Ok(Greeting { token, basic, peer: link.peer, stopping: link.stopping.clone() })
}

fn credentials(value: &str) -> Result<(Option<String>, bool), Problem> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let basic = scheme.eq_ignore_ascii_case("basic");
    let token = token.trim_matches(' ');
    if token.is_empty() || !(basic || scheme.eq_ignore_ascii_case("bearer")) {
        let text = "Authorization is Bearer or Basic, and what belongs to it";
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    Ok((Some(token.to_owned()), basic))
}

/// `access_token` or `token`, the first that is there.
fn query_token(query: &str) -> Option<String> {
    let named = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decode(value))
    };
    named("access_token").or_else(|| named("token")).filter(|token| !token.is_empty())
}

/// A value of a query in plain; what is no escape stays as it is.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        rest = behind;
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high << 4 | low).unwrap_or_default());
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a header is a list that has this word, in whatever case.
pub(super) fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    words(headers, name).any(|found| found.eq_ignore_ascii_case(word))
}

/// The words of a header that is a list, over all its lines.
pub(super) fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_where_clients_put_them() {
        let found = |value| credentials(value).map_err(|_| ());
        assert_eq!(found("Bearer a.b-c"), Ok((Some("a.b-c".into()), false)));
        assert_eq!(found("bearer  x"), Ok((Some("x".into()), false)));
        assert_eq!(found("Basic dTpw"), Ok((Some("dTpw".into()), true)));
        for bad in ["", "Bearer", "Bearer ", "Digest x", "x"] {
            assert_eq!(found(bad), Err(()), "{bad}");
        }
        for (query, token) in [
            ("access_token=a%2Bb+c%zz", Some("a+b c%zz")),
            ("x=1&token=t", Some("t")),
            ("token=t&access_token=a", Some("a")),
            ("token=", None),
            ("mytoken=t", None),
            ("token", None),
            ("", None),
        ] {
            assert_eq!(query_token(query).as_deref(), token, "{query}");
        }
    }
}
