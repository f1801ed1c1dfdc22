//! Who may come in, and under which name.

use std::collections::BTreeMap;

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
        let said = [token, passcode, &greeting.token, login];
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
