"""Images that are copies of one another: hashes, keypoints, alignment."""
