//! The identity in a client certificate: CN is the user, every O a group (K-209).

use rustls::pki_types::CertificateDer;

use crate::identity::Identity;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// Reads the subject of a certificate that TLS has already verified.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // serialNumber, signature, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (_, mut names, _) = element(rest)?;
    let (mut user, mut groups) = (String::new(), Vec::new());
    while !names.is_empty() {
        let (tag, set, tail) = element(names)?;
        names = tail;
        if tag != SET {
            return None;
        }
        let mut set = set;
        while !set.is_empty() {
            let (tag, pair, tail) = element(set)?;
            set = tail;
            let (kind, id, value) = element(pair)?;
            if tag != SEQUENCE || kind != OBJECT_ID {
                return None;
            }
            let text = String::from_utf8(element(value)?.1.to_vec()).ok()?;
            match id {
                COMMON_NAME => user = text,
                ORGANIZATION => groups.push(text),
                _ => {}
            }
        }
    }
    (!user.is_empty()).then(|| Identity::user(user, groups))
}

/// Tag, content and what follows of the first DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (
            digits
                .iter()
                .fold(0usize, |length, digit| length << 8 | usize::from(*digit)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_names_user_and_groups() {
        // K-209
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "jane");
        parameters
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        let certificate = parameters.self_signed(&key).unwrap();
        let identity = identity(certificate.der()).unwrap();
        assert_eq!(identity.user, "jane");
        assert!(identity.is_master());
        assert!(super::identity(&CertificateDer::from(vec![0x30, 0x80])).is_none());
    }
}
