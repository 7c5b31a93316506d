"""Backups on any file system fsspec knows: object stores, SFTP, memory."""
