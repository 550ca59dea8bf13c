//! What embedders rely on without saying so. That it stops compiling is the
//! failure.

use std::error::Error as StdError;
use std::os::fd::AsFd;

use pod::{
    Container, ContainerSpec, Error, Event, ExecSpec, Exit, Extension, Io, Pod, PodOptions, Process, ProcessSpec,
    Resources, Store, Watch,
};

fn goes_to_other_threads<T: Send + Sync>() {}
fn outlives_its_maker<T: Send + Sync + 'static>() {}
fn is_copied<T: Clone + Send + Sync + 'static>() {}
fn is_waited_for<T: AsFd>() {}
fn is_an_error<T: StdError + Clone + Send + Sync + 'static>() {}

#[test]
fn handles_go_to_other_threads() {
    goes_to_other_threads::<Container<'_>>();
    outlives_its_maker::<Pod>();
    outlives_its_maker::<Process>();
    outlives_its_maker::<Watch>();
    outlives_its_maker::<Io>();
    outlives_its_maker::<Box<dyn Extension>>();
    outlives_its_maker::<pod::oci::Instance>();
    is_copied::<Store>();
    is_copied::<pod::oci::Runtime>();
}

#[test]
fn what_is_data_is_copied() {
    is_copied::<ContainerSpec>();
    is_copied::<ProcessSpec>();
    is_copied::<PodOptions>();
    is_copied::<ExecSpec>();
    is_copied::<Resources>();
    is_copied::<Event>();
    is_copied::<Exit>();
    is_copied::<pod::PodStatus>();
    is_copied::<pod::ContainerStatus>();
    is_an_error::<Error>();
}

#[test]
fn what_takes_its_time_is_waited_for_by_a_descriptor() {
    is_waited_for::<Process>();
    is_waited_for::<Watch>();
}
