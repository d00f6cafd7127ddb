//! Service account tokens: JWTs signed by the server's own key (K-211, K-212).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::server::Inner;

/// The `iss` of tokens and their default audience.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The key pair; ES256, because `ring` cannot make RSA keys.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

/// What a token is bound to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    /// Kind (lower case), name and UID.
    pub bound: Option<(String, String, String)>,
    pub audiences: Vec<String>,
    pub lifetime: i64,
}

impl Signer {
    /// A fresh key in PKCS#8.
    pub fn generate() -> Result<Vec<u8>, String> {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Ok(key.map_err(|error| error.to_string())?.as_ref().to_vec())
    }

    /// A signer from a key in PKCS#8.
    pub fn new(pkcs8: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| error.to_string())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(digest.as_ref()),
            key,
            random,
        })
    }

    /// A signed token, and when it expires.
    pub fn issue(&self, claims: &Claims) -> Result<(String, jiff::Timestamp), String> {
        let now = jiff::Timestamp::now();
        let issued = now.as_second();
        let expires = issued + claims.lifetime;
        let mut own = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
        });
        if let Some((kind, name, uid)) = &claims.bound {
            own[kind] = json!({"name": name, "uid": uid});
        }
        let header = json!({"alg": "ES256", "kid": self.id});
        let body = json!({
            "iss": ISSUER, "aud": claims.audiences, "exp": expires, "iat": issued, "nbf": issued,
            "jti": uuid::Uuid::new_v4().to_string(),
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
            "kubernetes.io": own,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(body.to_string())
        );
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|error| error.to_string())?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok((token, jiff::Timestamp::from_second(expires).unwrap_or(now)))
    }

    /// The claims of a token signed by this key.
    fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        let (_, body) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    }
}

impl Inner {
    /// Whom a bearer token stands for; `audiences` empty means the server's own.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Option<(Identity, Vec<String>)> {
        if let Some((_, identity)) = self
            .tokens
            .iter()
            .find(|(known, _)| same_secret(known, token))
        {
            return Some((identity.clone(), vec![ISSUER.into()]));
        }
        let claims = self.signer.verify(token)?;
        let now = jiff::Timestamp::now().as_second();
        let time = |key: &str| claims.get(key).and_then(Value::as_i64);
        if time("exp")? <= now || time("nbf")? > now + 60 || claims.get("iss")?.as_str()? != ISSUER
        {
            return None;
        }
        let own: Vec<String> = claims
            .get("aud")?
            .as_array()?
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect();
        let default = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() {
            &default[..]
        } else {
            audiences
        };
        let matched: Vec<String> = wanted
            .iter()
            .filter(|item| own.contains(item))
            .cloned()
            .collect();
        if matched.is_empty() {
            return None;
        }
        let text = |pointer: &str| {
            claims
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let namespace = text("/kubernetes.io/namespace");
        let account = text("/kubernetes.io/serviceaccount/name");
        let uid = text("/kubernetes.io/serviceaccount/uid");
        // A token dies with its account and with what it is bound to (K-212).
        let stored = self.storage.get("serviceaccounts", namespace, account)?;
        if *stored.uid != *uid || stored.deleting {
            return None;
        }
        let mut identity = Identity::service_account(namespace, account);
        identity.uid = uid.to_owned();
        for (kind, collection, place) in [
            ("pod", "pods", namespace),
            ("secret", "secrets", namespace),
            ("node", "nodes", ""),
        ] {
            let name = text(&format!("/kubernetes.io/{kind}/name"));
            if name.is_empty() {
                continue;
            }
            let uid = text(&format!("/kubernetes.io/{kind}/uid"));
            if self
                .storage
                .get(collection, place, name)
                .is_none_or(|object| *object.uid != *uid)
            {
                return None;
            }
            for (key, value) in [("name", name), ("uid", uid)] {
                let key = format!("authentication.kubernetes.io/{kind}-{key}");
                identity.extra.insert(key, vec![value.to_owned()]);
            }
        }
        Some((identity, matched))
    }
}

/// Comparison that takes the same time wherever the difference is.
fn same_secret(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}
