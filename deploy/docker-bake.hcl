# Both images for amd64 and arm64: `docker buildx bake -f deploy/docker-bake.hcl`, from the top of a checkout.
#
# Two platforms at once need a builder that has both: a docker-container builder with QEMU or an arm64 node.
# `--set '*.platform=linux/arm64'` builds one. WATTBED_REGISTRY (with its slash) and --push make them available to a swarm.
variable "WATTBED_REGISTRY" {
  default = ""
}

variable "WATTBED_VERSION" {
  default = "0.1.0"
}

variable "WATTBED_REVISION" {
  default = ""
}

variable "WATTBED_BASE" {
  default = "python:3.11-slim-bookworm"
}

variable "TORCH" {
  default = "cpu"
}

variable "TORCH_INDEX" {
  default = ""
}

group "default" {
  targets = ["coordinator", "agent"]
}

target "image" {
  context    = "."
  dockerfile = "deploy/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  args = {
    BASE             = WATTBED_BASE
    TORCH            = TORCH
    TORCH_INDEX      = TORCH_INDEX
    WATTBED_REVISION = WATTBED_REVISION
  }
}

target "coordinator" {
  inherits = ["image"]
  target   = "coordinator"
  tags     = ["${WATTBED_REGISTRY}wattbed-coordinator:${WATTBED_VERSION}"]
}

target "agent" {
  inherits = ["image"]
  target   = "agent"
  tags     = ["${WATTBED_REGISTRY}wattbed-agent:${WATTBED_VERSION}"]
}
