//! Public keys and signatures of trusted resources: ECDSA on P-256 and P-384, Ed25519, RSA with PKCS #1 (P-366, P-367).

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use webpki::ring as algorithms;

/// A digest that signatures are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The algorithm of that name in a policy; empty means SHA-256.
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        match name.to_lowercase().as_str() {
            "" | "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            _ => Err(format!("unknown digest algorithm: {name}")),
        }
    }

    /// What a key may be used with; of the list the one that fits the key's kind counts.
    fn algorithms(self) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        use algorithms::*;
        match self {
            Self::Sha256 => vec![
                ECDSA_P256_SHA256,
                ECDSA_P384_SHA256,
                RSA_PKCS1_2048_8192_SHA256,
                ED25519,
            ],
            Self::Sha384 => vec![
                ECDSA_P256_SHA384,
                ECDSA_P384_SHA384,
                RSA_PKCS1_2048_8192_SHA384,
                ED25519,
            ],
            // There is no ECDSA with it.
            Self::Sha512 => vec![RSA_PKCS1_2048_8192_SHA512, ED25519],
        }
    }
}

/// A public key, and how it is used.
#[derive(Debug)]
pub(crate) struct Key {
    der: SubjectPublicKeyInfoDer<'static>,
    hash: Hash,
}

impl Key {
    /// Reads a PEM public key.
    pub(crate) fn read(pem: &[u8], hash: Hash) -> Result<Self, String> {
        let decode = |why: String| format!("key cannot be decoded: {why}");
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|error| decode(format!("PEM decoding failed: {error:?}")))?;
        RawPublicKeyEntity::try_from(&der).map_err(|error| decode(error.to_string()))?;
        Ok(Self { der, hash })
    }

    /// Whether `signature` is this key's of `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&self.der) else {
            return false;
        };
        self.hash
            .algorithms()
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    /// A message, and what OpenSSL made of it with keys of each kind.
    const MESSAGE: &str = "d973d9aaab810f0c55bd37e4cf309ad1085dd56b87aabd80b27c09572f8756b6";
    const P256: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQsZ8ynTlIX9eJ3rg1y0jbk7vZ90H\no2JZJ+9Qc+iXbZPZJ00YWQzkCYJ4k35/ukYaMjJbB0ChHSQczL3mmraEeA==\n-----END PUBLIC KEY-----\n";
    const P384: &str = "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEgzf+ZpJljw95w1rgdx0r22SBInM5/Fd4\nvLo0LtvPinI6PVZxNtWoVtrERnw9Tf3txubyXTHQV0Gc5JsD80tvPKW+F2fGkW+v\nzmFWahDgFNz50iYKda/fDP9Lgfx0llP2\n-----END PUBLIC KEY-----\n";
    const RSA: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAw0ugum8s5zu+NaG9FZZe\nGPIgs1eRFI2/XKi8y7C73In+AEcDksuNPzGKTVRay5MAeLpnGw6bri8TploI+Phw\nUD2b4vdVTIMaCJrSgd3VKZTcVhUXTJX2TOwaaxRGaVTjuCBOIJiHGSWrkv8p5z7E\n7Z/HLiPAIMkeP2dA0jcE3aQiDnPStcQLwBldw4FSdWafrltO9sKIIlw6l02rsbcr\nqb2nR1ucyn08aXLQrjnr+wSf6keFOKPXQ1TQMpsxqH3kVCoT2Wff2+Wcom5gePMU\nF9/q9zsnupQOcUL4bIefZgSpAtNC9HSHBYM4IJ2neyM0sL/trhvSaUUMqeUeba1a\nWQIDAQAB\n-----END PUBLIC KEY-----\n";
    const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGOHG12XUbPIVCxEhbM5nCWfj0RBTK5A1UaGqUwFPChM=\n-----END PUBLIC KEY-----\n";

    /// P-366, P-367
    #[test]
    fn signatures_that_openssl_made_are_verified() {
        let message: Vec<u8> = (0..MESSAGE.len() / 2)
            .map(|at| u8::from_str_radix(&MESSAGE[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        for (pem, hash, signature) in [
            (
                P256,
                "",
                "MEYCIQCUdJtMuUiIGUy7o58DnBAOjsIQJgyxJTjTa30PLTwf5AIhAOXgDq4K0xirNJoXH66Yv8w2hRGs+VJF96Icl+DJL6cC",
            ),
            (
                P384,
                "sha256",
                "MGYCMQDK+Z6xO4XIGIRAF3CROpP27T6cYKDM2M8b0F1ePtGfEeM8Ns3j1DjsxllrdORFNWkCMQDt3ILHrFrci46oMOV4ol28IYJPpd6tJdXCoT1OoPdq1oMht+WvW8tMPEW7HzHhy3o=",
            ),
            (
                P384,
                "SHA384",
                "MGYCMQD5KAma1MJhkpaSXyo4maF3f0V0CQlAIKfCBzI6R/97sbTKyB8bDk6TL6fdgxxpLYwCMQCircE5236ftE+y3BsWvf460rQhzyM71nfVd96ROpSH0d++1SX8fpAiCgEFXyW/UhI=",
            ),
            (
                RSA,
                "sha256",
                "r+u7q7M2glE8hj9bFKGeFmbWYdMatKTwIOdn58EnfpQV7N5G0CLPb5cjKdH1VrUZfcSrXbjBnalP5K1TLF4unLQ/EWeTkLsIwlEWQc6edoY7mp1IDELg2vV9QCglRkORn+JKEaOQhYe2JVbGftIN81y3meGXfSRoWQw/uZS6BRDce4bH5Oa+IwE24lTD8F+3yMgcf+xyMQWy6cVjfKKaHi2oIEJq3xI3mOkPeJH9KLLdACGd2OMfCFAhuE0JxWSfS2ocSk2I4DopKcY7AffQhtvs+XtXNxt0nG1tIOTeK19WKNiuoyTpaDpjLkxBCBaaew4o+iKGOB75yXa4LqAqQw==",
            ),
            (
                RSA,
                "sha512",
                "K9qBEAaNB3thbTEqMZAjhn3gz5GY1wA4Mk8Ubp1gR0wPY6wlk4RV4XTRlgalechs8CCTjgITcFvNaAnXpC8ZjMAMrsMiedWG9QAhWRE2s9JunflqI8GZdL6XBAQai1sbBB0arWEKUqvhrjHDjbsnMuLVSgCDaVbiAG+RLKkYPUcxfujlU5t5T+Gw2qa/oGF4CUgHbIXYR5NeVmaV5SVc1UmgCIIIaqsGjlT78z0T58kG3rX1bzQawcc3eJbjD27gjVusLDmroc50+zYsZEUyD8yu/ysKRMr/giZs9mRzqMf3Ww57YtGJQ0BLL4x5YMDgiZGr/Gr3nwx0qRNAT43D2Q==",
            ),
            (
                ED25519,
                "sha256",
                "E/bJTlO5ltiwJEqVB6F70qJWwmq2MSBlh6o6ucGPNcIxlHSOldh7rjasypmx+Njm5IWT2hiCEyKZ7/wBn4R3CA==",
            ),
        ] {
            let signature = base64::engine::general_purpose::STANDARD
                .decode(signature)
                .unwrap();
            let key = Key::read(pem.as_bytes(), Hash::read(hash).unwrap()).unwrap();
            assert!(key.verifies(&message, &signature), "{pem} {hash}");
            assert!(!key.verifies(&message[1..], &signature), "another message");
            assert!(
                !key.verifies(&message, &signature[1..]),
                "a damaged signature"
            );
            assert!(!key.verifies(&message, &[]), "no signature");
            let other = if pem == P256 { P384 } else { P256 };
            let other = Key::read(other.as_bytes(), Hash::Sha256).unwrap();
            assert!(!other.verifies(&message, &signature), "another key");
        }
        for broken in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            let error = Key::read(broken.as_bytes(), Hash::Sha256).unwrap_err();
            assert!(error.starts_with("key cannot be decoded: "), "{error}");
        }
        assert_eq!(
            Hash::read("md5").unwrap_err(),
            "unknown digest algorithm: md5"
        );
    }
}
