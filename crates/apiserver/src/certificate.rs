//! What is read of certificates: the identity of a client, where CN is the user and every O a group (K-209), and their end.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;

use crate::identity::Identity;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;

/// What follows serial number and algorithm: issuer, validity, subject and more.
fn from_issuer_on(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _serial_and_algorithm in 0..2 {
        rest = element(rest)?.2;
    }
    Some(rest)
}

/// When a certificate (DER) ends; none if that cannot be read.
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, _, rest) = element(from_issuer_on(certificate)?)?;
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let parsed = match tag {
        // Two digits of the year stand for 1950 to 2049.
        UTC_TIME if text < "50" => DateTime::strptime("%Y%m%d%H%M%S", format!("20{text}")),
        UTC_TIME => DateTime::strptime("%Y%m%d%H%M%S", format!("19{text}")),
        _ => DateTime::strptime("%Y%m%d%H%M%S", text),
    };
    let zoned = parsed.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

/// Reads the subject of a certificate that TLS has already verified.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let mut rest = from_issuer_on(certificate)?;
    for _issuer_and_validity in 0..2 {
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

    #[test]
    fn the_end_of_a_certificate_is_read_on_both_sides_of_2050() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, end) in [
            (2031, "2031-02-03T00:00:00Z"),
            (2999, "2999-02-03T00:00:00Z"),
        ] {
            let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
            let certificate = parameters.self_signed(&key).unwrap();
            let read = not_after(certificate.der()).unwrap();
            assert_eq!(read.to_string(), end);
        }
        assert_eq!(not_after(&[0x30, 0x03, 0x30, 0x01, 0x02]), None);
    }
}
