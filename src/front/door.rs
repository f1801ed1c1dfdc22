//! Who may come in, and under which name.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::carrier::Greeting;
use crate::base::error::{ClientError, Code};
use crate::wire::stomp::session::Credentials;

/// The name of those who give none.
const ANYBODY: &str = "anonymous";

/// Judges who may come in.
#[derive(Clone, Default)]
pub(crate) struct Door {
    /// SHA-256 of a token to the user it stands for. Without any, everybody may come in under any name.
    tokens: BTreeMap<[u8; 32], String>,
}

impl Door {
    /// A door for these tokens, said by their SHA-256.
    pub(crate) fn new(tokens: BTreeMap<[u8; 32], String>) -> Self {
        Self { tokens }
    }

    /// The user who comes in.
    ///
    /// # Errors
    /// [`Code::NotAllowed`], which says nothing about why.
    pub(crate) fn judge(
        &self,
        credentials: &Credentials,
        greeting: &Greeting,
    ) -> Result<String, ClientError> {
        let Credentials { login, passcode, token } = credentials;
        let named = login.as_deref().filter(|login| !login.is_empty());
        if self.tokens.is_empty() {
            return Ok(named.unwrap_or(ANYBODY).to_owned());
        }
        let upgrade = greeting.token.as_deref().and_then(|token| match greeting.basic {
            true => password(token),
            false => Some(token.to_owned()),
        });
        let said = [token, passcode, &upgrade, login];
        // Looking up a hash takes no longer the more of the token is right.
        let user = said.into_iter().flatten().find_map(|token| {
            let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
            self.tokens.get(&hash)
        });
        // A login that is not the token itself has to be the name that the token stands for.
        user.filter(|user| passcode.is_none() || named.is_none_or(|login| login == **user))
            .cloned()
            .ok_or_else(|| Code::NotAllowed.into())
    }
}

/// The password in what `Authorization: Basic` says.
fn password(basic: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(token: Option<&str>, basic: bool) -> Greeting {
        let (_, stopping) = tokio::sync::watch::channel(false);
        let peer = ([127, 0, 0, 1], 1).into();
        Greeting { token: token.map(Into::into), basic, peer, stopping }
    }

    fn credentials(login: &str, passcode: &str, token: &str) -> Credentials {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Credentials { login: some(login), passcode: some(passcode), token: some(token) }
    }

    /// Goal: a token is found wherever people put it, is its user's only, and nothing else gets in. Method: one
    /// case a place.
    #[test]
    fn a_token_is_found_in_the_usual_places() {
        let hash = Sha256::digest(b"secret").into();
        let door = Door::new(BTreeMap::from([(hash, "alice".to_owned())]));
        let alice = Ok("alice".to_owned());
        let none = greeting(None, false);
        let judge =
            |login, passcode, token| door.judge(&credentials(login, passcode, token), &none);
        assert_eq!(judge("alice", "secret", ""), alice);
        assert_eq!(judge("", "secret", ""), alice);
        assert_eq!(judge("secret", "", ""), alice);
        assert_eq!(judge("", "", "secret"), alice);
        let empty = credentials("", "", "");
        assert_eq!(door.judge(&empty, &greeting(Some("secret"), false)), alice);
        assert_eq!(door.judge(&empty, &greeting(Some("YWxpY2U6c2VjcmV0"), true)), alice);
        let not = Err(Code::NotAllowed);
        for (login, passcode, token) in [
            ("", "", ""),
            ("alice", "", ""),
            ("bob", "secret", ""),
            ("alice", "wrong", ""),
            ("", "", "x"),
        ] {
            assert_eq!(judge(login, passcode, token).map_err(|error| error.code), not);
        }
        for (token, basic) in [("secret", true), ("YWxpY2U6c2VjcmV0", false), ("%%%", true)] {
            let judged = door.judge(&empty, &greeting(Some(token), basic));
            assert_eq!(judged.map_err(|error| error.code), not);
        }
    }

    #[test]
    fn without_tokens_everybody_is_who_they_say() {
        let door = Door::default();
        let none = greeting(None, false);
        let judge = |login| door.judge(&credentials(login, "whatever", ""), &none);
        assert_eq!(judge("bob"), Ok("bob".to_owned()));
        assert_eq!(judge(""), Ok("anonymous".to_owned()));
    }
}
