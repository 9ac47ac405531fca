//! A connection to a WebSocket server: Zeek's from 7.2 on, or a gateway.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use futures_util::{SinkExt, StreamExt};
use muster_data::{Data, DataRef, Limits, json};
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509VerifyResult;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::error::{ClientError, DisconnectReason, RefusalReason, TlsReason};
use super::texts::TextsAsBinary;
use super::url::ServerUrl;

/// The largest message of a server, in bytes.
const MESSAGE_LIMIT: usize = 64 << 20;

/// How a client presents itself.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The name for the server's logs, in `X-Application-Name`.
    pub application: String,
    /// A token, if the server asks for one.
    pub token: Option<String>,
    /// The authorities of the server's certificate; without them those of the system.
    pub cafile: Option<PathBuf>,
    /// How long connecting may take, up to the server's acknowledgement.
    pub timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            application: "muster".to_owned(),
            token: None,
            cafile: None,
            timeout: Duration::from_secs(5),
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message on a topic that was subscribed to.
    Message {
        /// Its topic.
        topic: String,
        /// Its value: one of Zeek's messages, an event.
        data: Data,
    },
    /// It did not take something.
    Error {
        /// What kind of problem, in one word.
        code: String,
        /// What exactly.
        context: String,
    },
    /// Something that is not known.
    Other(String),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is subscribed.
pub struct Connection {
    pub(super) socket: WebSocketStream<Box<dyn Stream>>,
    endpoint: String,
    version: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Control {
    r#type: String,
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    context: String,
    #[serde(default)]
    detail: String,
}

impl Connection {
    /// Connects, and subscribes to topic prefixes.
    pub async fn open(
        url: &ServerUrl,
        config: &ClientConfig,
        prefixes: &[String],
    ) -> Result<Self, ClientError> {
        let opening = Self::open_without_limit(url, config, prefixes);
        tokio::time::timeout(config.timeout, opening)
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Timeout {
                    url: url.to_string(),
                    limit: config.timeout,
                })
            })
    }

    async fn open_without_limit(
        url: &ServerUrl,
        config: &ClientConfig,
        prefixes: &[String],
    ) -> Result<Self, ClientError> {
        let address = (url.host.as_str(), url.port);
        let connect = |source| ClientError::Connect {
            url: url.to_string(),
            source,
        };
        let stream = TcpStream::connect(address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let stream: Box<dyn Stream> = if url.secure {
            Box::new(TextsAsBinary::new(secure(stream, url, config).await?))
        } else {
            Box::new(TextsAsBinary::new(stream))
        };
        let refused = |reason| ClientError::Refused {
            url: url.to_string(),
            reason,
        };
        let mut request = url
            .to_string()
            .into_client_request()
            .map_err(|error| refused(RefusalReason::NotWebSocket(error.to_string())))?;
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| ClientError::Header(text.to_owned()))
        };
        let headers = request.headers_mut();
        headers.insert("X-Application-Name", value(&config.application)?);
        if let Some(token) = &config.token {
            headers.insert("Authorization", value(&format!("Bearer {token}"))?);
        }
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let handshake =
            tokio_tungstenite::client_async_with_config(request, stream, Some(limits)).await;
        let (socket, _) = handshake.map_err(|error| {
            refused(match error {
                tungstenite::Error::Http(response) => {
                    let body = response.body().as_deref().unwrap_or_default();
                    RefusalReason::Status {
                        status: response.status().as_u16(),
                        body: String::from_utf8_lossy(body).trim().to_owned(),
                    }
                }
                error => RefusalReason::NotWebSocket(error.to_string()),
            })
        })?;
        let mut this = Self {
            socket,
            endpoint: String::new(),
            version: String::new(),
        };
        let subscriptions = serde_json::Value::from(prefixes.to_vec()).to_string();
        this.send(subscriptions).await?;
        this.flush().await?;
        loop {
            let text = this.next_text().await?;
            match serde_json::from_slice::<Control>(&text) {
                Ok(control) if control.r#type == "ack" => {
                    this.endpoint = control.endpoint;
                    this.version = control.version;
                    return Ok(this);
                }
                Ok(control) if control.r#type == "error" => {
                    return Err(refused(RefusalReason::Error {
                        code: control.code,
                        context: control.context,
                    }));
                }
                // A message may overtake the acknowledgement; as if it had come before.
                _ => {}
            }
        }
    }

    /// How the server calls this connection.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The server's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The next thing that the server says. Whoever waits for something else as well may drop this: nothing
    /// is lost. Pings of the server are answered meanwhile, and only then.
    pub async fn receive(&mut self) -> Result<Incoming, ClientError> {
        let text = self.next_text().await?;
        Ok(read(&text))
    }

    /// Publishes a value, an event, to a topic.
    pub async fn publish(&mut self, topic: &str, value: DataRef<'_>) -> Result<(), ClientError> {
        let mut text = Vec::new();
        json::write_message(&mut text, topic.as_bytes(), value);
        self.send(String::from_utf8_lossy(&text).into_owned())
            .await?;
        self.flush().await
    }

    /// Sends a ping and waits for its answer; the time that it took.
    pub async fn ping(&mut self) -> Result<Duration, ClientError> {
        let start = Instant::now();
        let content = b"muster::ping".to_vec();
        let ping = Message::Ping(content.clone().into());
        self.socket
            .send(ping)
            .await
            .map_err(|error| ended(&error))?;
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Pong(answer))) if answer == content => return Ok(start.elapsed()),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame.as_ref())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(ended(&error)),
                None => return Err(ClientError::Ended(DisconnectReason::Closed)),
            }
        }
    }

    /// Says goodbye and waits, at most `limit`, until the server has read everything; whether it has.
    pub async fn close(mut self, limit: Duration) -> bool {
        let goodbye = async {
            let _ = self.socket.close(None).await;
            while let Some(Ok(message)) = self.socket.next().await {
                if message.is_close() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(limit, goodbye).await.unwrap_or(false)
    }

    async fn send(&mut self, text: String) -> Result<(), ClientError> {
        let message = Message::Text(text.into());
        self.socket
            .feed(message)
            .await
            .map_err(|error| ended(&error))
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        self.socket.flush().await.map_err(|error| ended(&error))
    }

    async fn next_text(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            let next = self.socket.next().await;
            if let Some(text) = text_of(next)? {
                return Ok(text);
            }
        }
    }
}

/// The text of what came over a connection, if it is one.
pub(super) fn text_of(
    next: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<Vec<u8>>, ClientError> {
    match next {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_bytes().to_vec())),
        Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes.to_vec())),
        Some(Ok(Message::Close(frame))) => Err(closed(frame.as_ref())),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(ended(&error)),
        None => Err(ClientError::Ended(DisconnectReason::Closed)),
    }
}

/// Reads what a server says after its acknowledgement.
pub(super) fn read(text: &[u8]) -> Incoming {
    let problem = match json::read_message(text, &Limits::default()) {
        Ok(json::Message {
            topic: Some(topic),
            data,
        }) => return Incoming::Message { topic, data },
        Ok(_) => "a message without a topic".to_owned(),
        Err(error) => error.to_string(),
    };
    match serde_json::from_slice::<Control>(text) {
        Ok(control) if control.r#type == "error" => {
            let mut context = control.context;
            if !control.detail.is_empty() {
                context = format!("{context}: {}", control.detail);
            }
            Incoming::Error {
                code: control.code,
                context,
            }
        }
        _ => Incoming::Other(problem),
    }
}

pub(super) fn ended(error: &tungstenite::Error) -> ClientError {
    ClientError::Ended(DisconnectReason::Connection(error.to_string()))
}

fn closed(frame: Option<&tungstenite::protocol::CloseFrame>) -> ClientError {
    ClientError::Ended(match frame {
        Some(frame) => DisconnectReason::ClosedWith {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
        None => DisconnectReason::Closed,
    })
}

/// `X509_V_ERR_HOSTNAME_MISMATCH` and `X509_V_ERR_IP_ADDRESS_MISMATCH` of OpenSSL's `x509_vfy.h`.
const MISMATCHES: [i32; 2] = [62, 64];

/// TLS as for any server: its certificate must be trusted, and be that of the host.
async fn secure(
    stream: TcpStream,
    url: &ServerUrl,
    config: &ClientConfig,
) -> Result<SslStream<TcpStream>, ClientError> {
    let failed = |reason| ClientError::Tls {
        url: url.to_string(),
        reason,
    };
    let stack = |error: openssl::error::ErrorStack| failed(TlsReason::Other(error.to_string()));
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(stack)?;
    if let Some(cafile) = &config.cafile {
        connector.set_ca_file(cafile).map_err(|error| {
            failed(TlsReason::CaFile {
                path: cafile.clone(),
                problem: error.to_string(),
            })
        })?;
    }
    let configuration = connector.build().configure().map_err(stack)?;
    let ssl = configuration.into_ssl(&url.host).map_err(stack)?;
    let mut stream = SslStream::new(ssl, stream).map_err(stack)?;
    let connected = Pin::new(&mut stream).connect().await;
    connected.map_err(|error| {
        let verdict = stream.ssl().verify_result();
        failed(if verdict == X509VerifyResult::OK {
            TlsReason::Other(error.to_string())
        } else if MISMATCHES.contains(&verdict.as_raw()) {
            TlsReason::OtherHost
        } else {
            TlsReason::NotTrusted(verdict.error_string())
        })
    })?;
    Ok(stream)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say() {
        let error = read(br#"{"type":"error","code":"c","context":"x","detail":"y"}"#);
        let expected = Incoming::Error {
            code: "c".to_owned(),
            context: "x: y".to_owned(),
        };
        assert_eq!(error, expected);
        assert!(matches!(read(b"nonsense"), Incoming::Other(_)));
        assert!(matches!(
            read(br#"{"topic":"/t","@data-type":"none"}"#),
            Incoming::Message { topic, data: Data::None } if topic == "/t"
        ));
    }
}
