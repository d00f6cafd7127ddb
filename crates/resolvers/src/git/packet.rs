//! Git's packet lines: how both sides of its protocol cut their streams.

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Data(&'a [u8]),
    /// Ends a message.
    Flush,
    /// Separates parts of a message.
    Delimiter,
}

impl<'a> Packet<'a> {
    /// The text of a data packet, without the newline at its end.
    pub(super) fn line(&self) -> Option<&'a str> {
        match self {
            Self::Data(bytes) => {
                let text = std::str::from_utf8(bytes).ok()?;
                Some(text.strip_suffix('\n').unwrap_or(text))
            }
            _ => None,
        }
    }
}

/// The longest packet, with its length.
const LONGEST: usize = 65520;

/// What the four digits before a packet say.
pub(super) enum Head {
    /// So many bytes follow.
    Data(usize),
    Flush,
    Delimiter,
}

/// Reads the four digits.
pub(super) fn head(digits: [u8; 4]) -> Result<Head, String> {
    let wrong = || {
        format!(
            "protocol error: bad line length character: {}",
            String::from_utf8_lossy(&digits).escape_debug()
        )
    };
    let text = std::str::from_utf8(&digits).map_err(|_| wrong())?;
    let length = usize::from_str_radix(text, 16).map_err(|_| wrong())?;
    match length {
        0 => Ok(Head::Flush),
        1 | 2 => Ok(Head::Delimiter),
        3 => Err(wrong()),
        length if length > LONGEST => Err(wrong()),
        length => Ok(Head::Data(length - 4)),
    }
}

/// The packets of a message.
pub(super) struct Packets<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = take(self.0);
        match read {
            Ok((packet, rest)) => {
                self.0 = rest;
                Some(Ok(packet))
            }
            Err(error) => {
                self.0 = &[];
                Some(Err(error))
            }
        }
    }
}

fn take(bytes: &[u8]) -> Result<(Packet<'_>, &[u8]), String> {
    let cut = || "protocol error: the answer ends within a packet".to_owned();
    let (digits, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    match head(*digits)? {
        Head::Flush => Ok((Packet::Flush, rest)),
        Head::Delimiter => Ok((Packet::Delimiter, rest)),
        Head::Data(length) => {
            let (data, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
            Ok((Packet::Data(data), rest))
        }
    }
}

/// Appends a data packet.
pub(super) fn data(out: &mut Vec<u8>, content: &str) {
    out.extend_from_slice(format!("{:04x}", content.len() + 4).as_bytes());
    out.extend_from_slice(content.as_bytes());
}

/// Appends a flush packet.
pub(super) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends a delimiter.
pub(super) fn delimiter(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}
