"""What the stages are made of: images, places, ZFS, machines, artifacts. Only `plugin` knows pytest."""
