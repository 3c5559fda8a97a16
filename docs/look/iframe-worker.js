// Search when the pages are opened from a folder: browsers start no worker from there, so its
// script runs in a hidden frame that answers like a worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inside.importScripts = (...urls) => Promise.all(urls.map(each => this.run(each)))
      this.ready = this.run(url)
    }
    run(url) {
      const script = this.inside.document.createElement("script")
      script.src = url
      this.inside.document.body.append(script)
      return new Promise(done => (script.onload = script.onerror = done))
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })))
    }
    terminate() {
      this.inside.frameElement.remove()
    }
  }
}
