"""What the reports of all commands are made of: pages, charts, images and progress."""
