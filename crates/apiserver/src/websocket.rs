//! Watches over WebSocket: the dashboard's only way to watch (K-142).

use base64::Engine as _;
use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::ApiError;
use crate::handler::full;
use crate::server::Body;

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Clients of a watch have nothing to say but close and ping.
const MAX_INCOMING: usize = 64 << 10;

/// Whether a request wants to become a WebSocket.
pub(crate) fn wanted(head: &request::Parts) -> bool {
    head.headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Sends each line of a response's body as one text message.
pub(crate) fn lines(
    head: &mut request::Parts,
    inner: Response<Body>,
) -> Result<Response<Body>, ApiError> {
    let key = head
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = accept(key.as_bytes());
    let upgrade = head.extensions.remove::<OnUpgrade>().ok_or_else(|| {
        ApiError::bad_request("this connection cannot be upgraded to a WebSocket")
    })?;
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // A client that is gone ends the watch; nobody is left to be told.
            let _ = serve(TokioIo::new(upgraded), inner.into_body()).await;
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

fn accept(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(context.finish())
}

/// One unfragmented, unmasked frame.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | kind);
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// The first whole frame of a client: kind and payload. `Err` if it is not acceptable.
fn read_frame(buffer: &mut BytesMut) -> Result<Option<(u8, Vec<u8>)>, ()> {
    let [first, second, ..] = buffer[..] else {
        return Ok(None);
    };
    let (extra, length) = match second & 0x7f {
        126 => match buffer.get(2..4) {
            Some(bytes) => (2, usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))),
            None => return Ok(None),
        },
        127 => return Err(()),
        short => (0, usize::from(short)),
    };
    // Clients must mask what they send.
    if second & 0x80 == 0 || length > MAX_INCOMING {
        return Err(());
    }
    let start = 2 + extra + 4;
    if buffer.len() < start + length {
        return Ok(None);
    }
    let mask = [
        buffer[start - 4],
        buffer[start - 3],
        buffer[start - 2],
        buffer[start - 1],
    ];
    let payload = buffer[start..start + length]
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    buffer.advance(start + length);
    Ok(Some((first & 0x0f, payload)))
}

async fn serve(stream: TokioIo<Upgraded>, mut body: Body) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    loop {
        tokio::select! {
            next = body.frame() => {
                let Some(Ok(next)) = next else {
                    writer.write_all(&frame(CLOSE, &1000u16.to_be_bytes())).await?;
                    return writer.flush().await;
                };
                outgoing.extend_from_slice(next.data_ref().map_or(&[], |data| data));
                while let Some(end) = outgoing.iter().position(|byte| *byte == b'\n') {
                    let line = outgoing.split_to(end + 1);
                    writer.write_all(&frame(TEXT, &line[..end])).await?;
                }
                writer.flush().await?;
            }
            read = reader.read_buf(&mut incoming) => {
                if read? == 0 {
                    return Ok(());
                }
                loop {
                    match read_frame(&mut incoming) {
                        Ok(None) => break,
                        Ok(Some((PING, payload))) => {
                            writer.write_all(&frame(PONG, &payload)).await?;
                            writer.flush().await?;
                        }
                        Ok(Some((CLOSE, payload))) => {
                            writer.write_all(&frame(CLOSE, &payload)).await?;
                            return writer.flush().await;
                        }
                        Ok(Some(_)) => {}
                        Err(()) => return Ok(()),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_answers_the_key_and_frames_have_the_right_length() {
        // K-142; key and answer are those of RFC 6455.
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(frame(TEXT, b"hi"), [0x81, 2, b'h', b'i']);
        assert_eq!(frame(TEXT, &[0; 300])[..4], [0x81, 126, 1, 44]);
        assert_eq!(
            frame(TEXT, &[0; 70_000])[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
        let mut masked = BytesMut::from(&[0x89u8, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2][..]);
        assert_eq!(read_frame(&mut masked), Ok(Some((PING, b"hi".to_vec()))));
        assert_eq!(
            read_frame(&mut BytesMut::from(&[0x81u8, 2, 0, 0][..])),
            Err(())
        );
        assert_eq!(read_frame(&mut BytesMut::from(&[0x81u8][..])), Ok(None));
    }
}
