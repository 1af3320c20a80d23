//! Libraries that wait by wakers alone, or have threads of their own: as they are, without a guest.

mod async_broadcast;
mod async_net;
mod backon;
mod flume;
mod hyper_util;
mod moka;
mod tls;
mod tonic;
mod tower;
