"""Anthropic's Messages as a caller's protocol: https://docs.anthropic.com/en/api/messages"""
