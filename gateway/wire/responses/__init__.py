"""OpenAI's Responses as a caller's protocol: https://platform.openai.com/docs/api-reference/responses"""
