//! Basic authentication against bcrypt hashes. Checking one takes tens of milliseconds of CPU, so what was
//! right is remembered, and guesses are checked one at a time with a pause between them.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;

/// Pause after a wrong password, for everybody who has to be checked.
const PAUSE: Duration = Duration::from_millis(500);
/// 2^16 rounds take seconds.
const MAX_COST: u32 = 16;
/// Checked for users who aren't there, so that they take as long as others. Of no password.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

/// Whether hashes can be checked at all.
///
/// # Errors
/// Whose can't, as the end of a sentence.
pub(super) fn check(users: &BTreeMap<String, String>) -> Result<(), String> {
    for (user, hash) in users {
        let parts = bcrypt::HashParts::from_str(hash)
            .map_err(|_| format!("the password of {user:?} in basic_auth_users is no bcrypt hash"))?;
        if parts.get_cost() > MAX_COST {
            return Err(format!("the bcrypt hash of {user:?} has a cost above {MAX_COST}"));
        }
    }
    Ok(())
}

/// Passwords that were right.
pub(in super::super) struct Passwords {
    /// Nobody but this process can make a tag, so tags tell nothing about passwords.
    key: Option<hmac::Key>,
    right: Mutex<HashMap<String, hmac::Tag>>,
    checking: tokio::sync::Mutex<()>,
}

impl Passwords {
    /// Knows of none.
    pub(in super::super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, right: Mutex::default(), checking: tokio::sync::Mutex::default() }
    }

    /// Whether the request's user and password are in `users`, or none is needed.
    pub(in super::super) async fn allow(
        &self,
        users: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> bool {
        if users.is_empty() {
            return true;
        }
        let Some((user, password)) = given(headers) else { return false };
        let hash = users.get(&user).map_or(NOBODY, String::as_str).to_owned();
        // The hash is part of it: a password that was changed is not right any more.
        let secret: Arc<[u8]> = [hash.as_bytes(), b"\0", password.as_bytes()].concat().into();
        if self.was_right(&user, &secret) {
            return true;
        }
        let _one = self.checking.lock().await;
        // Somebody may have waited for the same.
        if self.was_right(&user, &secret) {
            return true;
        }
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let right = users.contains_key(&user) && matches!(checked, Ok(Ok(true)));
        if right {
            self.remember(user, &secret);
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        right
    }

    fn was_right(&self, user: &str, secret: &[u8]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.key.as_ref().zip(right.get(user));
        known.is_some_and(|(key, tag)| hmac::verify(key, secret, tag.as_ref()).is_ok())
    }

    /// One for each user of the file at most.
    fn remember(&self, user: String, secret: &[u8]) {
        if let Some(key) = &self.key {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            right.insert(user, hmac::sign(key, secret));
        }
    }
}

/// User and password of a request.
fn given(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
