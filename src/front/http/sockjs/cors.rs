//! What lets pages of other origins read our answers.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::front::http::origin::Origins;
use crate::front::http::problem::Problem;

/// For answers that are old as soon as they are given.
pub(super) const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

/// A page that may read our answers, if the request is of one.
pub(super) struct Cors(Option<HeaderValue>);

impl Cors {
    /// # Errors
    /// The page may not.
    pub(super) fn judge(
        origins: &Origins,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Self, Problem> {
        if !origins.allows(headers, peer) {
            return Err(Problem::forbidden(
                "pages of this origin may not connect; see http.origins",
            ));
        }
        Ok(Self(headers.get(header::ORIGIN).cloned()))
    }

    /// The answer to a browser that asks before it sends.
    pub(super) fn preflight(&self, request: &Request, methods: &'static str) -> Option<Response> {
        if request.method() != Method::OPTIONS {
            return None;
        }
        let headers = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_MAX_AGE, "31536000"),
            (header::CACHE_CONTROL, "public, max-age=31536000"),
        ];
        let mut answer = (StatusCode::NO_CONTENT, headers).into_response();
        if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        Some(self.put_on(answer))
    }

    /// Lets the page read the answer.
    pub(super) fn put_on(&self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = &self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        answer
    }
}
