"""LiteRT delegates by path: a real library, what it takes and leaves, and why it is not there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.agent.runtimes import runtime
from assay.core.errors import RuntimeAbsent, RuntimeRejected
from assay.core.model import RuntimeSpec
from tests.conftest import need

# TensorFlow Lite's external delegate interface (tensorflow/lite/delegates/external) and the head of
# TfLiteDelegate: one that takes no operator, and refuses to exist where it is told to.
SOURCE = r"""
#include <stdint.h>
#include <string.h>
typedef struct Delegate {
  void* data;
  int (*prepare)(void*, struct Delegate*);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void* builder;
} Delegate;
static int prepare(void* context, Delegate* self) { return 0; }
static Delegate it = {0, prepare, 0, 0, 0, 0, 0};
Delegate* tflite_plugin_create_delegate(char** keys, char** values, int n,
                                        void (*tell)(const char*)) {
  for (int i = 0; i < n; i++)
    if (!strcmp(keys[i], "device") && !strcmp(values[i], "none")) {
      tell("no such device");
      return 0;
    }
  return &it;
}
void tflite_plugin_destroy_delegate(Delegate* self) {}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(program="cc")
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "lazy.c").write_text(SOURCE)
    made = folder / "liblazy_delegate.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, folder / "lazy.c"], check=True)
    return made


def load(**options: str) -> Any:
    need(module="ai_edge_litert")
    cls = runtime("litert")
    named = {key.replace("__", "."): value for key, value in options.items()}
    return cls.load(cls.one_operator_model(), RuntimeSpec("litert", options=named))


def test_what_a_delegate_leaves_is_named(library: Path) -> None:
    model = load(delegate=str(library), delegate__device="npu0")
    assert model.placement() == ("builtin: 1 operators (RELU x1)",)
    assert model.fallback() == "RELU x1"
    (output,) = model.run({"x": np.array([-1, 0, 1, 2], dtype=np.float32)})
    assert output.tolist() == [0, 0, 1, 2]


def test_a_delegate_that_finds_no_device_is_absent(library: Path) -> None:
    with pytest.raises(RuntimeAbsent, match=r"lazy_delegate\.so does not load: no such device"):
        load(delegate=str(library), delegate__device="none")


def test_a_library_that_is_no_delegate_is_absent(tmp_path: Path) -> None:
    with pytest.raises(RuntimeAbsent, match="is no file on this device"):
        load(delegate=str(tmp_path / "not-there.so"))
    with pytest.raises(RuntimeAbsent, match="a full path is needed"):
        load(delegate="libnpu.so")
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(RuntimeAbsent, match="does not load"):
        load(delegate=str(tmp_path / "text.so"))


def test_options_without_a_delegate_are_refused() -> None:
    with pytest.raises(RuntimeRejected, match="delegate=PATH"):
        load(delegate__device="npu0")
