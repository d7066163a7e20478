// Vercel's AI SDK, given a base URL and models: does each thing once and prints one JSON object of results.
//     node vercel_ai.cjs BASE_URL '{"openai": "openai/gpt-5.2", …}'
'use strict'
globalThis.AI_SDK_LOG_WARNINGS = false // it would print that it does not know how long these models may answer
const { generateText, streamText, embed, tool, stepCountIs, Output } = require('ai')
const { createOpenAI } = require('@ai-sdk/openai')
const { createOpenAICompatible } = require('@ai-sdk/openai-compatible')
const { createAnthropic } = require('@ai-sdk/anthropic')
const { z } = require('zod')

const [baseURL, given] = process.argv.slice(2)
const models = JSON.parse(given)
const apiKey = 'not-needed'
const compatible = createOpenAICompatible({ name: 'gateway', baseURL, apiKey, includeUsage: true })
const adapters = {
  compatible: (model) => compatible(model),
  openai: (model) => createOpenAI({ baseURL, apiKey }).chat(model),
  responses: (model) => createOpenAI({ baseURL, apiKey }).responses(model),
  anthropic: (model) => createAnthropic({ baseURL, apiKey })(model),
}
const once = { prompt: 'How is the weather?', maxRetries: 0 }
const person = Output.object({ schema: z.object({ name: z.string(), age: z.number() }) })

async function whole(model) {
  const { text, finishReason, usage } = await generateText({ ...once, model })
  return { text, reason: finishReason, total: usage.totalTokens }
}

async function streamed(model) {
  const stream = streamText({ ...once, model, onError: () => {} })
  let text = ''
  for await (const piece of stream.textStream) text += piece
  return { text, reason: await stream.finishReason, total: (await stream.usage).totalTokens }
}

// The SDK runs the tool and asks again by itself.
async function called(model, ask) {
  const cities = []
  const getWeather = tool({
    description: 'of a place',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { cities.push(city); return `22 °C in ${city}` },
  })
  const answer = await ask({ ...once, model, tools: { get_weather: getWeather }, stopWhen: stepCountIs(3) })
  return { text: await answer.text, steps: (await answer.steps).length, cities }
}

async function structured(name) {
  return (await generateText({ ...once, model: adapters[name](models.person), output: person })).output
}

// By default the SDK names what the model said by its ids, and leaves it to the server to know it.
async function remembered(model) {
  const first = { role: 'user', content: 'Pick a number.' }
  const { response } = await generateText({ model, messages: [first], maxRetries: 0 })
  const messages = [first, ...response.messages, { role: 'user', content: 'Which one?' }]
  return (await generateText({ model, messages, maxRetries: 0 })).text
}

async function failed(model) {
  try {
    return { text: (await generateText({ ...once, model })).text }
  } catch (error) {
    return { kind: error.name, status: error.statusCode, message: error.message, retryable: error.isRetryable }
  }
}

async function each(names, ask) {
  const results = {}
  for (const name of names) results[name] = await ask(name)
  return results
}

async function main() {
  const adapterNames = Object.keys(adapters)
  const vector = await embed({ model: compatible.textEmbeddingModel(models.vectors), value: 'a cat', maxRetries: 0 })
  return {
    whole: await each(Object.keys(models.chat), (name) => whole(compatible(models.chat[name]))),
    streamed: await each(Object.keys(models.chat), (name) => streamed(compatible(models.chat[name]))),
    called: await each(adapterNames, (name) => called(adapters[name](models.tools), generateText)),
    called_streamed: await each(adapterNames, (name) => called(adapters[name](models.tools), streamText)),
    structured: await each(['openai', 'responses'], structured),
    remembered: await each(adapterNames, (name) => remembered(adapters[name](models.memory))),
    failed: await each(adapterNames, (name) => failed(adapters[name](models.busy))),
    vector: vector.embedding,
  }
}

main().then((results) => console.log(JSON.stringify(results)))
