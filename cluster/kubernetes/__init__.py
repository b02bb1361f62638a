"""Manifests for KubeRay, and the hook that their pods run."""
