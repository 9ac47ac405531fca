//! A connection's socket, of either kind, and its two halves.

use std::io::{self, IoSlice, Read};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use super::low_water::LowWater;
use super::patience::Patience;
use super::spin::Spin;
use super::{UNACKNOWLEDGED, set_unsent};
use crate::endpoint::status::Transport;

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    spin: Option<Spin>,
    writes: Writes,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a socket's writes are watched for.
#[derive(Debug)]
enum Writes {
    /// How fast they are.
    Tcp(LowWater),
    /// Whether they come to an end.
    Unix(Patience),
}

/// The half that is read.
#[derive(Debug)]
pub(crate) struct SocketReader {
    half: ReadHalf,
    spin: Option<Spin>,
}

#[derive(Debug)]
enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

/// The half that is written.
#[derive(Debug)]
pub(crate) struct SocketWriter {
    half: WriteHalf,
    writes: Writes,
}

#[derive(Debug)]
enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl Stream {
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_now(stream, buffer),
            Self::Unix(stream) => read_now(stream, buffer),
        }
    }

    fn set_unsent(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => set_unsent(stream, bytes),
            Self::Unix(_) => Ok(()),
        }
    }
}

impl ReadHalf {
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => read_now(half.as_ref(), buffer),
            Self::Unix(half) => read_now(half.as_ref(), buffer),
        }
    }
}

impl WriteHalf {
    fn set_unsent(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(half) => set_unsent(half.as_ref(), bytes),
            Self::Unix(_) => Ok(()),
        }
    }
}

impl Socket {
    pub(crate) fn tcp(stream: TcpStream, busy_poll: Duration) -> Self {
        Self {
            stream: Stream::Tcp(stream),
            spin: Spin::new(busy_poll),
            writes: Writes::Tcp(LowWater::new()),
        }
    }

    pub(super) fn unix(stream: UnixStream, busy_poll: Duration) -> Self {
        Self {
            stream: Stream::Unix(stream),
            spin: Spin::new(busy_poll),
            writes: Writes::Unix(Patience::new(UNACKNOWLEDGED)),
        }
    }

    /// What it runs over.
    pub(crate) fn transport(&self) -> Transport {
        match self.stream {
            Stream::Tcp(_) => Transport::Tcp,
            Stream::Unix(_) => Transport::Unix,
        }
    }

    /// Looks at the first bytes, which stay where they are; `None` where that is not possible.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream.peek(buffer).await),
            Stream::Unix(_) => None,
        }
    }

    /// Takes it apart.
    pub(crate) fn into_split(self) -> (SocketReader, SocketWriter) {
        let (read, write) = match self.stream {
            Stream::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        };
        let reader = SocketReader {
            half: read,
            spin: self.spin,
        };
        let writer = SocketWriter {
            half: write,
            writes: self.writes,
        };
        (reader, writer)
    }
}

/// Reads as far as something has come, whatever the runtime knows of it.
fn read_now(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(socket)).read(buffer)
}

/// What is read from one of two kinds of streams, by a reader that may ask again before it waits.
macro_rules! read_from_either {
    ($type:ident, $field:ident, $kind:ident) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let this = self.get_mut();
                let read = match &mut this.$field {
                    $kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
                    $kind::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
                };
                match &mut this.spin {
                    Some(spin) => {
                        spin.poll_read(cx, buffer, read, |piece| this.$field.read_now(piece))
                    }
                    None => read,
                }
            }
        }
    };
}

read_from_either!(Socket, stream, Stream);
read_from_either!(SocketReader, half, ReadHalf);

/// What is written to one of two kinds of streams, and watched.
macro_rules! write_to_either {
    ($type:ident, $field:ident, $kind:ident) => {
        impl $type {
            /// Notes what the system has taken of a write.
            fn watch(
                &mut self,
                cx: &mut Context<'_>,
                written: Poll<io::Result<usize>>,
            ) -> Poll<io::Result<usize>> {
                match &mut self.writes {
                    Writes::Unix(patience) => patience.poll_write(cx, written),
                    Writes::Tcp(low_water) => {
                        if let Poll::Ready(Ok(bytes)) = &written
                            && let Some(mark) = low_water.wrote(*bytes, Instant::now)
                        {
                            // Where it cannot be set, the link is as it was.
                            let _ = self.$field.set_unsent(mark);
                        }
                        written
                    }
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                let written = match &mut this.$field {
                    $kind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
                    $kind::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
                };
                this.watch(cx, written)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                let written = match &mut this.$field {
                    $kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
                    $kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
                };
                this.watch(cx, written)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut self.get_mut().$field {
                    $kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                    $kind::Unix(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut self.get_mut().$field {
                    $kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
                    $kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    };
}

write_to_either!(Socket, stream, Stream);
write_to_either!(SocketWriter, half, WriteHalf);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_mark_of_a_connection_is_the_one_that_the_system_has() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let (dialled, (mut accepted, _)) = (dialled.unwrap(), accepted.unwrap());
        crate::endpoint::socket::prepare(&dialled).unwrap();
        let (_reader, mut writer) = Socket::tcp(dialled, Duration::ZERO).into_split();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 20];
            while accepted.read(&mut buffer).await.unwrap() > 0 {}
        });
        // However fast the machine is.
        let chunk = vec![0; 256 << 10];
        for _ in 0..400 {
            writer.write_all(&chunk).await.unwrap();
            let WriteHalf::Tcp(half) = &writer.half else {
                panic!("this is TCP");
            };
            let in_system = SockRef::from(half.as_ref()).tcp_notsent_lowat();
            let Writes::Tcp(low_water) = &writer.writes else {
                panic!("this is TCP");
            };
            assert_eq!(in_system.unwrap(), low_water.mark());
        }
        writer.shutdown().await.unwrap();
        reading.await.unwrap();
    }
}
